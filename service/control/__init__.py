"""What acts for the users of a service: the controller, its hands on folders and jobs, notifications."""
