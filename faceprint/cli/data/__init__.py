"""`faceprint data`: what is done to photographs and training sets before training."""

from __future__ import annotations

import typer

from faceprint.cli.data import align, list_images, pack, rearrange, synthetic, verify

app = typer.Typer(
    name="data",
    help="Prepare photographs and training sets.\n\nStart with: faceprint data align PHOTOGRAPHS CROPS",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.command("align")(align.align)
app.command("synthetic")(synthetic.synthetic)
app.command("list")(list_images.list_images)
app.command("pack")(pack.pack)
app.command("unpack")(pack.unpack)
app.command("shuffle")(rearrange.shuffle)
app.command("split")(rearrange.split)
app.command("merge")(rearrange.merge)
app.command("subset")(rearrange.subset)
app.command("verify")(verify.verify)
