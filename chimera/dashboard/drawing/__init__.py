"""Pictures: pure makers of SVG."""
