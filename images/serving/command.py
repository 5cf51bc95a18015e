"""`invoke serve`: from its options to a server that runs, and what it says on the terminal."""

from __future__ import annotations

import time

from images.progress import Progress
from images.serving.options import Options
from images.serving.server import Server
from images.serving.window import minutes


def serve(options: Options, progress: Progress) -> None:
    """Serve until all is done. Raises ConfigError or ServeError before anything is begun."""
    server = Server.prepare(options, tell=lambda text: progress.note(f"{time.strftime('%H:%M:%S')} {text}"))
    for line in introduction(server):
        progress.note(line)
    server.run()


def introduction(server: Server) -> list[str]:
    """What an administrator has to know at its start."""
    options = server.options
    clusters = ", ".join(
        f"{offer.name} ({' '.join(node.name for node in offer.cluster.nodes)})" for offer in server.board.offers
    )
    dhcp = {
        "proxy": f"proxy DHCP and TFTP on {options.interface}, beside the DHCP server that is there",
        "full": f"DHCP and TFTP on {options.interface}: no other DHCP server may be on that network",
        "none": f"no DHCP: let yours name {server.script} to iPXE",
    }[options.dhcp]
    return [
        f"clusters: {clusters}",
        dhcp,
        f"installer and image at http://{server.http}/, secrets at https://{server.tls}/ "
        f"for {minutes(options.window)}, once for each node",
        f"every node, live: http://{server.page}/",
        "boot the machines from the network now; Ctrl-C ends this",
    ]
