"""Pure makers of SVG."""
