"""The drill's paid calls: what they ask, what they cost, and what limits them."""

from chimera.core.money import MICRO, Window

AGENT, MODEL = "chaos-drill", "metered"
"""Whose calls they are, and which model they ask."""
PROMPT = "Say ok to "
"""What every call asks, followed by its task."""
INPUT_TOKENS, OUTPUT_TOKENS = 40, 20
"""Of every call."""
PRICES_USD = {"CHIMERA_MODEL_PRICE_INPUT_USD": "1", "CHIMERA_MODEL_PRICE_OUTPUT_USD": "2"}
"""Per million tokens: what a fleet that calls this endpoint is told."""
COST_MICROUSD = INPUT_TOKENS * 1 + OUTPUT_TOKENS * 2
"""Of every call, at these prices."""
LIMITS = {
    f"{of}{window}": 1_000 * MICRO for of in ("", f"agent/{AGENT}/", f"model/{MODEL}/") for window in Window
}
"""A limit at every level, µ$: more than a drill spends, so each is checked at each grant and none refuses."""
