"""What a model costs: its size, its speed, its memory and energy, as metrics that a search can weigh."""
