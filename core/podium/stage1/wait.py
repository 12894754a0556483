"""A supervisor at rest: the interpreter runs this file of the pod's pin (see waiter.py).

PYTHON -I -S -B <pin>/lib/podium/stage1/wait.py FD POD-FOLDER
"""

import sys

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/podium/")[0])
    from podium.stage1.waiter import main

    main(int(sys.argv[1]))
