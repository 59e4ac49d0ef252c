"""The MailCare dialect: a team's received mail, at its hosted base and at the older one."""
