"""Lightning modules, data modules and callbacks that people tune, each usable from a plain LightningCLI config."""
