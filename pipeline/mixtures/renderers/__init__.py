"""From one planned mixture to its files: how each kind of dataset reads, levels and mixes.

A renderer lives in one process and remembers utterances, so that what many mixtures use is decoded, resampled and measured once;
the samples of a mixture depend on nothing but the plan and the corpus. Which renderer a plan has, the adapter of its kind says:
see ``plans.build.ADAPTERS``.
"""
