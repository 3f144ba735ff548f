"""Changes of stored files: each key is removed in turn, and set to values of other types."""

import copy

WRONG = [None, True, -1, 1.5, 10**30, "x", [], ["x"], {}, {"x": 1}]


def _paths(content, path=()):
    """Yield the path of each value; of a list, only its first item."""
    if path:
        yield path
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _paths(value, (*path, key))
    elif isinstance(content, list) and content:
        yield from _paths(content[0], (*path, 0))


def without_each_key(content):
    """Yield the path of each key, and the content without it."""
    for path in _paths(content):
        changed, parent = _copy(content, path)
        del parent[path[-1]]
        yield path, changed


def with_wrong_types(content, values=WRONG):
    """Yield the path of each value, a value of another type, and the content with it; then each value as the whole."""
    for path in _paths(content):
        for value in values:
            changed, parent = _copy(content, path)
            if not _same_type(parent[path[-1]], value):
                parent[path[-1]] = value
                yield path, value, changed
    for value in values:
        if not isinstance(value, type(content)):
            yield (), value, value


def _same_type(old, new):
    return type(old) is type(new) and not isinstance(old, dict | list)


def _copy(content, path):
    changed = copy.deepcopy(content)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    return changed, parent
