"""Build hook: compiles the CPU kernels when the package is installed. Without a compiler it installs without them."""

import importlib.util
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelHook(BuildHookInterface[Any]):
    """Builds in place and adds the library to the wheel, which is then for this kind of machine only."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the files; `version` is `standard` or `editable`."""
        builder = _builder(Path(self.root))
        try:
            # hatchling comes here once for the metadata and once for the wheel
            library = builder.LIBRARY if builder.is_current() else builder.build()
        except builder.BuildError as error:
            self.app.display_warning(f"fallow is installed without its CPU kernels: {error}")
            return
        build_data["artifacts"].append(str(library.relative_to(self.root)))
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"  # the library is plain C to Python: any version of it will do


def _builder(root: Path) -> ModuleType:
    """`fallow.linear.kernels.build`, from its file: the package itself wants torch, which need not be there yet."""
    path = root / "src" / "fallow" / "linear" / "kernels" / "build.py"
    spec = importlib.util.spec_from_file_location("fallow_kernels_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
