"""The clock: jobs that do what time makes due. Each is idempotent, bounded, and safe in several replicas."""
