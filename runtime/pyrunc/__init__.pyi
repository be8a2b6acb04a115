# The names of `import pyrunc` for type checkers: __init__.py loads these on first use.
from pyrunc.api import AlreadyExistsError as AlreadyExistsError
from pyrunc.api import AsyncContainer as AsyncContainer
from pyrunc.api import AsyncRuntime as AsyncRuntime
from pyrunc.api import BugError as BugError
from pyrunc.api import Bundle as Bundle
from pyrunc.api import Completed as Completed
from pyrunc.api import Container as Container
from pyrunc.api import Difference as Difference
from pyrunc.api import Error as Error
from pyrunc.api import ExitStatus as ExitStatus
from pyrunc.api import HookError as HookError
from pyrunc.api import Mount as Mount
from pyrunc.api import NotFoundError as NotFoundError
from pyrunc.api import NotInstalledError as NotInstalledError
from pyrunc.api import Problem as Problem
from pyrunc.api import ProgramFailed as ProgramFailed
from pyrunc.api import RefusedError as RefusedError
from pyrunc.api import Runtime as Runtime
from pyrunc.api import State as State
from pyrunc.api import StateError as StateError
from pyrunc.api import Stats as Stats
from pyrunc.api import StepError as StepError
from pyrunc.api import TimeoutExpired as TimeoutExpired
from pyrunc.api import UnsupportedError as UnsupportedError
from pyrunc.api import UsageError as UsageError

__version__: str
