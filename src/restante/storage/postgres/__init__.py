"""PostgreSQL 15 and newer through psycopg 3: connections, the writer's groups, readers, signals, copies for backups."""
