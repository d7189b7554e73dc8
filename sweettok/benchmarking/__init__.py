"""How fast the tokenizer is: against a plain restatement of the published computation, by ratios
measured in one run, and over batch sizes and precisions of a device (jobs/benchmark_model.py)."""
