"""Any SDK, governed: OpenAI's own client against a fleet, whole and as a stream.

chimera up, then ``export CHIMERA_URL=… CHIMERA_API_KEY_FILE=…`` (`chimera up` prints the line),
``pip install openai``, ``python examples/any_sdk.py``.
"""

from __future__ import annotations

import os
from pathlib import Path

from openai import APIStatusError, OpenAI


def key() -> str:
    """The tenant's key, as Chimera's own clients find it."""
    if "CHIMERA_API_KEY" in os.environ:
        return os.environ["CHIMERA_API_KEY"]
    return Path(os.environ["CHIMERA_API_KEY_FILE"]).read_text(encoding="utf-8").strip()


def main() -> None:
    """Ask twice, and say what each answer cost."""
    url = os.environ.get("CHIMERA_URL", "http://127.0.0.1:8000")
    # These two lines are all that an agent changes.
    client = OpenAI(base_url=f"{url}/v1", api_key=key(), default_headers={"X-Chimera-Agent": "any-sdk"})
    model = client.models.list().data[0].id
    try:
        raw = client.chat.completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": "Name a harbour."}],
            max_completion_tokens=24,
        )
        print(raw.parse().choices[0].message.content)
        print(f"cost: {raw.headers['x-chimera-cost-microusd']} µ$")

        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Name another."}],
            max_completion_tokens=24,
            stream=True,
        )
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        print()
    except APIStatusError as refused:  # 402: the budget; 429: wait; the message says which limit
        print(f"refused ({refused.code}): {refused.message}")


if __name__ == "__main__":
    main()
