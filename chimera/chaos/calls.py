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
SPANS_S = {
    Window.MINUTE: 60,
    Window.HOUR: 3_600,
    Window.DAY: 86_400,
    Window.MONTH: 28 * 86_400,
    Window.YEAR: 365 * 86_400,
    Window.LIFETIME: 3_650 * 86_400,
}
LIMITS = {
    f"{of}{window}": MICRO * span_s
    for of in ("", f"agent/{AGENT}/", f"model/{MODEL}/")
    for window, span_s in SPANS_S.items()
}
"""A limit at every level, µ$: a dollar a second of each window. A drill spends far less, so each is checked
at each grant, none refuses, and no brake takes the load for a runaway (limits may make its plan)."""
