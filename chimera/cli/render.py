"""`chimera tenant render`: a tenant's namespace on Kubernetes, written out; asks no Redis and no cluster."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.output import Format, Output
from chimera.cli.tenant import Name

if TYPE_CHECKING:
    from chimera.core.kube.bundle import Bundle
    from chimera.core.kube.part import Part

KUSTOMIZATION = "kustomization.yaml"
WRITTEN_ANEW = """\
# Written by `chimera tenant render --dir`, and anew each time. What you change belongs into a folder beside
# this one, whose kustomization.yaml names it under `resources`.
"""


def render(
    name: Name,
    cpu: Annotated[
        str, typer.Option("--cpu", help="The tenant's processors, all in all.", metavar="QUANTITY")
    ],
    memory: Annotated[
        str, typer.Option("--memory", help="The tenant's memory, all in all.", metavar="QUANTITY")
    ],
    max_agents: Annotated[int, typer.Option("--max-agents", min=1, max=10_000_000, help="Agents at once.")],
    slots: Annotated[
        int | None,
        typer.Option("--slots", min=1, max=10_000, help="Agents at once in one worker; else CHIMERA_SLOTS."),
    ] = None,
    worker_cpu: Annotated[str, typer.Option(help="Of one worker pod.", metavar="QUANTITY")] = "1",
    worker_memory: Annotated[str, typer.Option(help="Of one worker pod.", metavar="QUANTITY")] = "2Gi",
    image: Annotated[str, typer.Option(help="Chimera's image, with the tenant's agents.")] = "chimera:dev",
    namespace: Annotated[str, typer.Option(help="What it is called; else tenant-NAME.")] = "",
    hub_namespace: Annotated[str, typer.Option(help="Where the hub and its Redis are.")] = "chimera-system",
    egress: Annotated[
        list[str] | None,
        typer.Option(
            "--egress",
            help="What workers may reach beside, a model for example; may be given again.",
            metavar="CIDR:PORT",
        ),
    ] = None,
    api_server: Annotated[
        list[str] | None,
        typer.Option(
            "--api-server",
            help="Where Kubernetes' API answers, for Ray's autoscaler; may be given again. Else anywhere.",
            metavar="CIDR",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, no secret; may be given again.", metavar="CHIMERA_X=VALUE"),
    ] = None,
    suspend: Annotated[
        bool,
        typer.Option("--suspend", help="For a tenant that sleeps: no pod, until it is rendered without."),
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Write a folder for kustomize instead, a file for each object."),
    ] = None,
    output_format: Output = Format.TEXT,
) -> None:
    """Write a tenant's namespace for Kubernetes: quota, network, accounts, a Ray cluster with its own spoke.

    --cpu and --memory are the tenant's all in all: the head's pod, and a worker pod for each --slots of
    --max-agents. What does not fit is refused. Its Secrets are not in it: docs/spokes.md.

    \b
    Examples:
      chimera tenant render acme --cpu 16 --memory 32Gi --max-agents 200 | kubectl apply -f -
      chimera tenant render acme --cpu 16 --memory 32Gi --max-agents 200 --suspend | kubectl apply -f -
      chimera tenant render acme --cpu 16 --memory 32Gi --max-agents 200 --egress 203.0.113.7/32:443 \\
          --set CHIMERA_MODEL_URL=https://models.example.com/v1 --dir acme
    """
    from chimera.core.kube.bundle import bundle
    from chimera.core.kube.names import namespace_of
    from chimera.core.kube.network import ANYWHERE, Opening, network
    from chimera.core.kube.quantity import Size
    from chimera.core.kube.request import Request

    places = slots or _slots()
    made = bundle(
        Request(
            tenant=name,
            namespace=namespace or namespace_of(name),
            quota=Size.parse(cpu, memory, flags=("--cpu", "--memory")),
            worker=Size.parse(worker_cpu, worker_memory, flags=("--worker-cpu", "--worker-memory")),
            max_agents=max_agents,
            slots=places,
            image=_image(image),
            hub=hub_namespace,
            openings=tuple(Opening.parse(one) for one in egress or ()),
            api_server=tuple(network(one, "--api-server") for one in api_server or ()) or ANYWHERE,
            settings=chosen(settings or (), slots=places),
            suspend=suspend,
        )
    )
    if directory is not None:
        _write(made, directory)
    if output_format is Format.JSON:
        output.document({"apiVersion": "v1", "kind": "List", "items": made.manifests()})
    elif directory is None:
        output.say(text(made.manifests()).rstrip("\n"))
    _tell(made)


def text(documents: Iterable[dict[str, Any]]) -> str:
    """Objects as one text of YAML."""
    import yaml

    return yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True, width=120)


def chosen(given: Sequence[str], *, slots: int) -> dict[str, str]:
    """``["CHIMERA_MODEL=gpt-5"]`` → the variables, by name.

    Args:
        slots: of a worker, which some settings must fit.

    Raises:
        ConfigurationError: one is no setting, is a secret or holds one, does not fit, or is the bundle's own.
    """
    from pydantic import ValidationError

    from chimera.core.kube.spoke import DECIDED, GRACE_S, SPOKE_GRACE_S
    from chimera.errors import ConfigurationError
    from chimera.settings import PREFIX, GivenSettings, Settings, is_secret

    found: dict[str, str] = {}
    for one in given:
        variable, equals, value = one.partition("=")
        field = Settings.model_fields.get(variable.removeprefix(PREFIX).lower())
        if not equals or not variable.startswith(PREFIX) or field is None:
            raise ConfigurationError(
                f"--set {variable!r} is no setting: write CHIMERA_X=VALUE; `chimera env`"
            )
        if variable in DECIDED:
            raise ConfigurationError(f"--set {variable}: the bundle says it itself; leave it out")
        if is_secret(field) or _has_login(value):
            raise ConfigurationError(
                f"--set {variable} is or has a secret: the bundle has none; docs/spokes.md says where they go"
            )
        found[variable] = value
    grace_s = found.get("CHIMERA_SPOKE_GRACE_S")
    fields: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in found.items()}
    try:
        GivenSettings(**fields, slots=slots)
    except ValidationError as exc:
        said = exc.errors()[0]
        where = "".join(f"--set {PREFIX}{str(name).upper()}: " for name in said["loc"][:1])
        raise ConfigurationError(where + said["msg"].removeprefix("Value error, ")) from exc
    if grace_s is not None and float(grace_s) > SPOKE_GRACE_S:
        raise ConfigurationError(
            f"--set CHIMERA_SPOKE_GRACE_S={grace_s}: the head's pod is ended {GRACE_S} s after it is told "
            f"to end; give at most {SPOKE_GRACE_S}"
        )
    return dict(sorted(found.items()))


def _has_login(value: str) -> bool:
    from urllib.parse import urlsplit

    return "://" in value and "@" in urlsplit(value).netloc


def _image(name: str) -> str:
    from chimera.errors import ConfigurationError

    if not name or any(letter.isspace() for letter in name):
        raise ConfigurationError(f"--image {name!r} is no name of an image")
    return name


def _slots() -> int:
    from chimera.settings import load

    return load().slots


def _write(made: Bundle, directory: Path) -> None:
    """A file for each object, always the same, and what names them; what else is in the folder stays."""
    files = {_file(one): text([one.manifest()]) for one in made.objects}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(files),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in {**files, KUSTOMIZATION: WRITTEN_ANEW + text([kustomization])}.items():
        (directory / name).write_text(content, encoding="utf-8")


def _file(one: Part) -> str:
    document = one.manifest()
    return f"{document['kind'].lower()}-{document['metadata']['name']}.yaml"


def _tell(made: Bundle) -> None:
    """What it takes, for whoever reads along."""
    from chimera.core.kube.sizing import HEAD, HEAD_RESTS

    sizing, tenant = made.sizing, shlex.quote(made.request.tenant)
    output.note(
        f"{tenant}: up to {output.counted(sizing.replicas, 'worker pod')} of {sizing.slots} agents, each "
        f"{sizing.worker}; with the head {sizing.taken} of {sizing.quota}"
    )
    output.note(
        "suspended: it takes nothing, and nothing of it runs, until it is rendered without --suspend"
        if made.request.suspend
        else f"at rest it keeps the head's pod: {HEAD_RESTS} asked for, {HEAD} at most; suspended, nothing"
    )
