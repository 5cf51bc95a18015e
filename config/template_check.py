"""Templates against the names that their renderer defines, and against the model that those names stand for.

StrictUndefined would find the same faults on a node, at the moment when the file is needed. This finds them before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from config.findings import Finding
from config.model import Cluster, Nics, Node
from config.phrases import did_you_mean
from config.secrets import Secrets
from config.shape import is_list, part_in

if TYPE_CHECKING:
    from jinja2 import nodes

Names = Mapping[str, Any]
"""Top-level names of a template, each with its type; Any where attributes are not checked."""

NODE_NAMES: Names = {
    "cluster": Cluster,
    "node": Node,
    "peer": Node,
    "secrets": Secrets,
    "nics": Nics,
    "partitions": Any,
    "managed": str,
}
"""What the renderer of the node's files defines."""
IMAGE_NAMES: Names = dict.fromkeys(
    (
        "dom0_options",
        "initrd",
        "kernel",
        "keyring",
        "linux_options",
        "root_uuid",
        "sources",
        "xen",
        "xen_options",
    ),
    Any,
)
"""What the builder of the image defines."""
DEB_NAMES: Names = dict.fromkeys(("installed_kib", "units", "version"), Any)
"""What the builder of the node's Debian package defines."""
INSTALLER_NAMES: Names = dict.fromkeys(("options", "root_uuid"), Any)
"""What the builder of the install medium defines."""
PRESEED_NAMES: Names = dict.fromkeys(
    (
        "cluster",
        "debconf",
        "disabled",
        "disk_script",
        "enabled",
        "files",
        "late_script",
        "least_size",
        "masked",
        "mirror",
        "nodes",
        "non_free_firmware",
        "packages",
        "place",
        "pool",
        "root",
        "root_mib",
        "stop",
        "suite",
    ),
    Any,
)
"""What is defined for the answers and scripts of Debian's own installer."""
CONTEXTS: Mapping[str, Names] = {
    "node": NODE_NAMES,
    "image": IMAGE_NAMES,
    "deb": DEB_NAMES,
    "installer": INSTALLER_NAMES,
    "preseed": PRESEED_NAMES,
}
"""The names of each kind of template, by directory below templates/."""


def check_templates(templates: Path, contexts: Mapping[str, Names] = CONTEXTS) -> list[Finding]:
    """All templates (*.j2) below a directory: syntax, undefined names, attributes that the model does not have.

    A template below a directory that contexts does not list is a finding itself. No directory, no findings.
    """
    findings: list[Finding] = []
    for path in sorted(templates.rglob("*.j2")):
        kind = path.relative_to(templates).parts[0]
        if kind in contexts:
            findings += _check(path, contexts[kind])
        else:
            problem = f"nothing says which names a template below {kind}/ may use"
            findings.append(Finding(str(path), None, "", problem, f"move it below {' or '.join(contexts)}/"))
    return findings


def _check(path: Path, names: Names) -> Iterator[Finding]:
    import jinja2  # noqa: PLC0415 -- the loader's side of this package must not pay for it
    from jinja2 import meta  # noqa: PLC0415

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 -- no HTML
    try:
        tree = environment.parse(path.read_text(encoding="utf-8"))
        undefined = meta.find_undeclared_variables(tree) - set(names)
    except jinja2.TemplateSyntaxError as e:
        yield Finding(
            str(path), e.lineno, "", f"is not a template: {e.message}", "see the Jinja template documentation"
        )
        return
    except (OSError, UnicodeDecodeError) as e:
        yield Finding(str(path), None, "", f"cannot be read: {e}", "make it a readable UTF-8 text")
        return
    for name in sorted(undefined):
        lines = [found.lineno for found in tree.find_all(jinja2.nodes.Name) if found.name == name]
        yield Finding(str(path), min(lines, default=1), name, "nothing defines this name", did_you_mean(name, names))
    yield from _Walk(str(path)).statements(tree, dict(names))


class _Walk:
    """Follows the types of names through a template's tree, as far as they are known."""

    def __init__(self, file: str) -> None:
        self.file = file

    def statements(self, tree: nodes.Node, names: dict[str, Any]) -> Iterator[Finding]:
        """Findings in a subtree. names is the scope: loops get a copy, assignments change it."""
        from jinja2 import nodes  # noqa: PLC0415

        if isinstance(tree, nodes.For):
            yield from self.statements(tree.iter, names)
            inner = names | {name.name: Any for name in tree.target.find_all(nodes.Name)} | {"loop": Any}
            if isinstance(tree.target, nodes.Name):
                inner[tree.target.name] = _item(self.type_of(tree.iter, names))
            for child in (tree.test, *tree.body, *tree.else_):
                if child is not None:
                    yield from self.statements(child, inner)
        elif isinstance(tree, nodes.Assign) and isinstance(tree.target, nodes.Name):
            yield from self.statements(tree.node, names)
            names[tree.target.name] = self.type_of(tree.node, names)
        elif isinstance(tree, nodes.Macro | nodes.CallBlock):
            inner = names | {argument.name: Any for argument in tree.args}
            for child in tree.iter_child_nodes():
                yield from self.statements(child, inner)
        else:
            if isinstance(tree, nodes.Getattr):
                yield from self.attribute(tree, names)
            for child in tree.iter_child_nodes():
                yield from self.statements(child, names)

    def attribute(self, tree: nodes.Getattr, names: dict[str, Any]) -> Iterator[Finding]:
        owner = self.type_of(tree.node, names)
        if owner in {str, int} or _is_model(owner):
            fields = list(owner.model_fields) if _is_model(owner) else []
            if tree.attr not in fields and not hasattr(owner, tree.attr):
                remedy = did_you_mean(tree.attr, fields) if fields else "take it out"
                path = f"{_spelt(tree.node)}.{tree.attr}"
                yield Finding(self.file, tree.lineno, path, f"{owner.__name__} has no {tree.attr}", remedy)

    def type_of(self, tree: nodes.Node, names: dict[str, Any]) -> Any:
        """The type of an expression, Any where it cannot be told. An optional value counts as given."""
        from jinja2 import nodes  # noqa: PLC0415

        if isinstance(tree, nodes.Name):
            return names.get(tree.name, Any)
        if isinstance(tree, nodes.Getattr) and _is_model(owner := self.type_of(tree.node, names)):
            field = owner.model_fields.get(tree.attr)
            return _plain(field.annotation) if field else Any
        if isinstance(tree, nodes.Getitem) and isinstance(tree.arg, nodes.Const) and isinstance(tree.arg.value, int):
            return _item(self.type_of(tree.node, names))
        return Any


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _plain(annotation: Any) -> Any:
    return annotation if is_list(annotation) else part_in(annotation) or annotation


def _item(kind: Any) -> Any:
    return (part_in(kind) or get_args(kind)[0]) if is_list(kind) else Any


def _spelt(tree: nodes.Node) -> str:
    from jinja2 import nodes  # noqa: PLC0415

    if isinstance(tree, nodes.Getattr):
        return f"{_spelt(tree.node)}.{tree.attr}"
    if isinstance(tree, nodes.Getitem):
        return f"{_spelt(tree.node)}[...]"
    return tree.name if isinstance(tree, nodes.Name) else "..."
