"""What the console is served: its pages, one event stream, what was, and what is known of models."""
