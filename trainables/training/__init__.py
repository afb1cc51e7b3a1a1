"""How a model is trained, apart from what it is: callbacks for any LightningModule, in any LightningCLI config.

Lightning and torch bring the rest: every optimizer and schedule of `torch.optim`, `gradient_clip_val` of the trainer,
and the callbacks EarlyStopping, StochasticWeightAveraging and EMAWeightAveraging.
"""
