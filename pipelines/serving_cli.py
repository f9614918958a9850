"""`ecgbeats container` and `ecgbeats switch`: bentos where they are run."""

from __future__ import annotations

from pathlib import Path

import click

from ecgbeats.cli import in_words


@click.command()
@click.option("--champion", help="Address of the bento that answers.")
@click.option("--challenger", help="Address of the one that is tried.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1),
    help="Of the clients, those whom the challenger answers; with --shadow, copies go of.",
)
@click.option("--shadow/--no-shadow", default=None, help="Copies alone; nobody sees its answers.")
@click.option(
    "--control",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file with champion, challenger, share, shadow: read again every second.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=3000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--admin-host", default="127.0.0.1", show_default=True)
@click.option(
    "--admin-port",
    default=3100,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="For /metrics, /status and /livez of the switch itself.",
)
@click.option(
    "--trusted-proxies",
    metavar="ADDRESSES",
    help="Balancers before it, between commas, whose X-Forwarded-For names the client.",
)
@in_words
def switch(
    champion: str | None,
    challenger: str | None,
    share: float | None,
    shadow: bool | None,
    control: Path | None,
    host: str,
    port: int,
    admin_host: str,
    admin_port: int,
    trusted_proxies: str | None,
) -> None:
    """Put two running bentos behind one address: canary, shadow, upgrade.

    By --control, whose changes take effect within a second; or by the other options, for good.
    Prints a line of JSON for each change and each disagreement.
    """
    from ecgbeats.errors import ConfigError
    from pipelines.switch import Switch
    from pipelines.switch_plan import make_plan, read_plan
    from pipelines.switch_server import serve

    given = {"champion": champion, "challenger": challenger, "share": share, "shadow": shadow}
    values = {name: value for name, value in given.items() if value is not None}
    if (control is None) == (not values):
        raise ConfigError("switch: expected either --control, or --champion and what goes with it")
    plan = read_plan(control) if control is not None else make_plan(values, "switch")
    serve(
        Switch(plan, control=control),
        (host, port),
        (admin_host, admin_port),
        trusted_proxies=trusted_proxies,
    )


@click.command()
@click.argument("recipe", required=False)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the context; what it held is replaced.",
)
@in_words
def container(recipe: str | None, out: Path) -> None:
    """Write the context of an image of RECIPE's champion: `docker build` on it makes the image.

    Without RECIPE of the newest champion; where none is here, of the carried model.
    """
    from pipelines import carried, elsewhere, standing
    from pipelines.container import write_context
    from pipelines.environment import enter

    out = out.absolute()
    root = enter()
    bento = elsewhere.bento_of(root, recipe, click.echo) if recipe else standing.newest_bento(root)
    bento = bento or carried.build(root)
    click.echo(f"docker build --tag {bento} {write_context(root, bento, out)}")


COMMANDS = (switch, container)
