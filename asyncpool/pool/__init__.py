"""The parent: what runs in the application's process."""
