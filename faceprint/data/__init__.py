"""Images from anywhere: sources, alignment, verification sets. Nothing here needs torch but the loader."""

from faceprint.data.alignment import align
from faceprint.data.bin import read_bin, write_bin
from faceprint.data.folder import image_folder
from faceprint.data.images import decode_image, read_image
from faceprint.data.lists import image_list
from faceprint.data.record_source import RecordSource
from faceprint.data.recordio import Record, RecordReader, RecordWriter
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.verify_set import verify_set
from faceprint.data.write_set import write_set

__all__ = [
    "Record",
    "RecordReader",
    "RecordSource",
    "RecordWriter",
    "SyntheticFaces",
    "align",
    "decode_image",
    "image_folder",
    "image_list",
    "read_bin",
    "read_image",
    "verify_set",
    "write_bin",
    "write_set",
]
