"""The public door: checks, says commands, waits for outcomes, forwards reads, streams changes. Owns nothing durable."""
