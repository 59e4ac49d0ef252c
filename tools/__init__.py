"""Programs around the product: benchmarks, fuzzing, fault injection, samples. Not installed with Restante."""
