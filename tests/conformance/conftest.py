"""Which checks of a virtual machine every run makes: a guest takes seconds to start, where a container takes none."""

from __future__ import annotations

import os

import pytest

# At least one of each subject, and all that apps of one pod show. PODIUM_TEST_WHOLE_SUITE=1 makes all (some minutes).
OF_GUESTS = (
    *("test_hooks_are_as_specified", "test_info_is_known_and_steady", "test_check_says_what_to_do", "test_older_pods"),
    *("test_what_is_not_claimed_is_refused", "test_hooks_return_in_time", "test_gc_of_a_pod_that_never_ran"),
    *("test_several_apps", "test_gc_is_idempotent", "test_nothing_is_left", "test_gc_after_a_reboot"),
    *("test_enter_has_the_app_s_restrictions", "test_enter_is_refused", "test_processor_isolator[cpu]"),
    *("test_isolator", "test_event_handlers", "test_readonly_rootfs", "test_volume", "test_block_isolator"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("PODIUM_TEST_WHOLE_SUITE") == "1":
        return
    left_out = [item for item in items if "::TestKvm::" in item.nodeid and not item.name.startswith(OF_GUESTS)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
