import pyarrow as pa
import pytest

from engine import schema


@schema.stage(reads=schema.SOURCE, writes=schema.VIDEO)
class Forgetful:
    def __call__(self, sources):
        return sources


def test_columns_come_out_in_the_declared_order_and_others_are_left_behind():
    table = pa.table({"extra": [1], "modified": ["m"], "size": [1], "uri": ["u"]})
    assert schema.check(table, schema.SOURCE, "here").column_names == ["uri", "size", "modified"]


def test_a_missing_column_or_another_type_is_named():
    with pytest.raises(ValueError, match=r"out of Forgetful: the columns \['video_id', 'reason', 'detail', "):
        list(Forgetful()(pa.table({"uri": ["u"], "size": [1], "modified": ["m"]})))
    with pytest.raises(ValueError, match="into Forgetful: column size is string, expected int64"):
        list(Forgetful()(pa.table({"uri": ["u"], "size": ["1"], "modified": ["m"]})))


def test_an_embedding_may_have_any_width_but_no_other_type():
    half, double = pa.list_(pa.float16(), 384), pa.list_(pa.float64(), 384)
    declared = schema.SCORED.field("embedding").type
    assert schema.same_type(declared, half)
    assert not schema.same_type(declared, double)
    assert not schema.same_type(schema.BOX, pa.list_(pa.int32(), 3))


def test_stored_patches_hold_each_fact_once_and_no_raw_frame():
    stored, frames = set(schema.patches_table(8).names), set(schema.FRAMES_TABLE.names)
    assert "image" not in stored | frames
    keys = {"video_id", "frame_id", "time_ms", "pts", "time_base", "frame_height", "frame_width"}
    assert stored & frames == keys | {"glare"}, "a patch has a glare of its own"
