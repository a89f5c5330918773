"""What the clients of others find here, and how true the estimates are that they are told."""
