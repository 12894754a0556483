"""`contextmanager`, `suppress` and `nullcontext` as contextlib has them, without what that imports: 3 ms of a run."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import contextmanager as contextmanager
    from contextlib import nullcontext as nullcontext
    from contextlib import suppress as suppress
else:

    class _Generated:
        def __init__(self, generator):
            self._generator = generator

        def __enter__(self):
            for value in self._generator:
                return value
            raise RuntimeError("generator didn't yield")

        def __exit__(self, kind, error, at):
            if error is None:
                for _ in self._generator:
                    raise RuntimeError("generator didn't stop")
                return False
            try:
                self._generator.throw(error)
            except StopIteration as e:
                return e is not error  # it has ended, so it has dealt with the error
            except RuntimeError as e:
                if isinstance(error, StopIteration) and e.__cause__ is error:
                    return False  # PEP 479: the generator has let it through
                raise
            except BaseException as e:
                if e is error:
                    return False
                raise
            raise RuntimeError("generator didn't stop after throw()")

    def contextmanager(function):
        """A function that yields once becomes one that makes a context manager."""

        def made(*args, **named):
            return _Generated(function(*args, **named))

        made.__name__, made.__qualname__, made.__doc__ = function.__name__, function.__qualname__, function.__doc__
        made.__module__, made.__wrapped__ = function.__module__, function
        return made

    class suppress:
        """Errors of these classes end the block and no more."""

        def __init__(self, *errors):
            self._errors = errors

        def __enter__(self):
            return None

        def __exit__(self, kind, error, at):
            return kind is not None and issubclass(kind, self._errors)

    class nullcontext:
        """A block around which nothing is done."""

        def __init__(self, result=None):
            self._result = result

        def __enter__(self):
            return self._result

        def __exit__(self, *exc):
            return None
