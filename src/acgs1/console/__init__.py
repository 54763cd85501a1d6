"""The console process: monitoring, and the page that shows the system."""
