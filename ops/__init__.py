"""The operator's tools: what is wrong with a live system, and the few things that a person does about it by hand."""
