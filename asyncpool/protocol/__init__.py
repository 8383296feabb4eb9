"""What both sides share: frames, messages, values. No I/O and no clock in here."""
