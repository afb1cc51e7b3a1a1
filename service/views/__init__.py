"""What people see of sweeps: tables and pictures in a terminal, and the plain data behind them."""
