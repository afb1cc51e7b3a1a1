"""The HTTP interface: routes, who may use them, and the shapes of what goes in and out."""
