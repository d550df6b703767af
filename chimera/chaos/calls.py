"""The drill's paid calls: what they ask, and what they cost."""

PROMPT = "Say ok to "
"""What every call asks, followed by its task."""
INPUT_TOKENS, OUTPUT_TOKENS = 40, 20
"""Of every call."""
PRICES_USD = {"CHIMERA_MODEL_PRICE_INPUT_USD": "1", "CHIMERA_MODEL_PRICE_OUTPUT_USD": "2"}
"""Per million tokens: what a fleet that calls this endpoint is told."""
COST_MICROUSD = INPUT_TOKENS * 1 + OUTPUT_TOKENS * 2
"""Of every call, at these prices."""
