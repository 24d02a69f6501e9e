"""`python -m faceprint`, the spelling that torchrun uses, which is told of errors to name the process that failed."""

import os

from faceprint.cli import main

if "TORCHELASTIC_RUN_ID" in os.environ:
    from torch.distributed.elastic.multiprocessing.errors import record

    main = record(main)

main()
