"""What a model is trained for: the loss, the metrics and the steps that every model of a kind shares."""
