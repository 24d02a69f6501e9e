"""Images from anywhere: sources, alignment, verification sets. Nothing here needs torch but the loader."""

from faceprint.data.alignment import align
from faceprint.data.bin import read_bin, write_bin
from faceprint.data.folder import image_folder
from faceprint.data.images import decode_image, read_image
from faceprint.data.lists import image_list
from faceprint.data.record_source import RecordSource
from faceprint.data.recordio import Record, RecordReader, RecordWriter
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.write_records import RecordSetWriter

__all__ = [
    "Record",
    "RecordReader",
    "RecordSetWriter",
    "RecordSource",
    "RecordWriter",
    "SyntheticFaces",
    "align",
    "decode_image",
    "image_folder",
    "image_list",
    "read_bin",
    "read_image",
    "write_bin",
]
