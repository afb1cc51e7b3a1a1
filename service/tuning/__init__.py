"""What runs inside a sweep's job: the decision core, the driver around Ray Tune, the trial, tracking, reports."""
