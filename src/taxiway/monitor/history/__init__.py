"""What metrics were: rings of seconds in memory, rollups on the disk; what the console draws."""
