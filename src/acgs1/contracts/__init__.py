"""What crosses a service boundary: request and response types and events, one module per service.

Types here are frozen and refuse unknown fields; they hold no behaviour beyond their own consistency.
"""
