"""The sweep file: read with every fault and its line, checked, written back; its search space and what it would do."""
