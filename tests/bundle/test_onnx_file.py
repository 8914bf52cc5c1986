import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import array, float32, int32, int64, nan, random, resize, uint8
from onnx import TensorProto, helper, numpy_helper

from reelsense.bundle.onnx_file import MOST_NODES, Summary, check_model
from reelsense.bundle.onnx_nodes import ALLOWED_OPS, LARGEST
from reelsense.errors import BadInput

NETWORKS = [
    {},
    {"variant": "int8"},
    {"layers": 3},
    {"pooling": "max"},
    {"pooling": "mean"},
    {"pooling": "last", "variant": "int8"},
    {"dense": 5},
]


@pytest.fixture(scope="module")
def fp32(small_model):
    return onnx.load_model_from_string(small_model())


@pytest.fixture(scope="module")
def int8(small_model):
    return onnx.load_model_from_string(small_model(variant="int8"))


def copied(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def node(model, op):
    return next(node for node in model.graph.node if node.op_type == op)


def weights(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def body(model):
    """The graph inside of the last Scan, which is that of the multipliers."""
    scan = [node for node in model.graph.node if node.op_type == "Scan"][-1]
    return next(a for a in scan.attribute if a.name == "body").g


def of_scan(model, name):
    return next(a for a in node(model, "Scan").attribute if a.name == name)


def put(model, name, values):
    weights(model, name).CopyFrom(numpy_helper.from_array(array(values), name))


# --- What is let through ----------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_our_graphs_are_let_through_and_say_what_they_are(small_model, network):
    evidence = network.get("pooling") != "last" and "dense" not in network
    assert check_model(small_model(words=41, **network), "m") == Summary(41, evidence)


def test_a_graph_that_was_read_and_written_by_onnx_is_the_same_to_us(fp32):
    assert check_model(fp32.SerializeToString(), "m") == Summary(30, True)


def test_packed_shapes_are_read_too(fp32):
    # 1 is a field of integers one by one (08 05), or with a length in front (0a 01 05).
    changed = copied(fp32)
    tensor = weights(changed, "words")
    rest = onnx.TensorProto()
    rest.CopyFrom(tensor)
    rest.ClearField("dims")
    packed = b"\x0a\x02" + bytes([30, 4]) + rest.SerializeToString()
    graph = onnx.GraphProto()
    graph.CopyFrom(changed.graph)
    graph.initializer.remove(weights(fp32, "words"))
    data = graph.SerializeToString() + b"\x2a" + varint(len(packed)) + packed
    model = copied(changed)
    model.ClearField("graph")
    whole = model.SerializeToString() + b"\x3a" + varint(len(data)) + data
    assert onnx.load_model_from_string(whole).graph.initializer[-1].dims == [30, 4]
    assert check_model(whole, "m") == Summary(30, True)


def varint(number):
    groups = []
    while True:
        groups.append(number & 0x7F)
        number >>= 7
        if not number:
            return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


# --- What is refused --------------------------------------------------------------------------


def external(model):
    tensor = weights(model, "output_weight")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"


def external_unsaid(model):
    weights(model, "output_weight").data_location = TensorProto.EXTERNAL


def foreign_operator(model):
    node(model, "Sigmoid").domain = "com.somebody"


def foreign_opset(model):
    model.opset_import.append(helper.make_opsetid("com.somebody", 1))


def functions(model):
    model.functions.add().name = "mine"


def training(model):
    model.training_info.add()


def graph_inside(model):
    node(model, "Sigmoid").attribute.append(helper.make_attribute("body", onnx.GraphProto()))


def loop(model):
    node(model, "Sigmoid").op_type = "Loop"


def sparse(model):
    model.graph.sparse_initializer.add()


def too_short(model):
    weights(model, "words").raw_data = weights(model, "words").raw_data[:-1]


def huge_shape(model):
    weights(model, "words").dims[:] = [2**62, 4]


def negative_shape(model):
    weights(model, "words").dims[:] = [-30, -4]


def empty_weights(model):
    weights(model, "words").dims[0] = 0
    weights(model, "words").raw_data = b""


def not_raw(model):
    tensor = helper.make_tensor("output_weight", TensorProto.FLOAT, [12, 1], [1.0] * 12)
    weights(model, "output_weight").CopyFrom(tensor)


def texts_as_weights(model):
    weights(model, "words").data_type = TensorProto.STRING


def nan_weights(model):
    put(model, "bias", array([nan], float32))


def huge_number(model):
    put(model, "no", array(-LARGEST - 1, int64))


def weights_twice(model):
    model.graph.initializer.append(weights(model, "words"))


def weights_named_as_an_input(model):
    weights(model, "words").name = "ids"


def other_input(model):
    model.graph.input[0].name = "tokens"


def one_input_more(model):
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.INT32, ["B"]))


def one_input_less(model):
    del model.graph.input[1]


def wide_input(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def fixed_input(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def shapeless_input(model):
    model.graph.input[0].type.tensor_type.ClearField("shape")


def other_output(model):
    model.graph.output[0].name = "states"


def no_logit(model):
    del model.graph.output[1]


def many_nodes(model):
    room = MOST_NODES - len(model.graph.node)  # but for the nodes of bodies
    model.graph.node.extend([helper.make_node("Relu", ["logit"], [f"n{i}"]) for i in range(room)])


def many_weights(model):
    for place in range(1001):
        model.graph.initializer.append(numpy_helper.from_array(float32(0), f"n{place}"))


def made_twice(model):
    model.graph.node.append(helper.make_node("Relu", ["logit"], ["probability"]))


def circle(model):
    node(model, "Sigmoid").input[0] = "probability"


def from_nowhere(model):
    node(model, "Sigmoid").input[0] = "nothing"


def input_left_out(model):
    node(model, "Max").input[1] = ""  # ends the process in onnxruntime 1.32


def constant_output(model):
    del model.graph.node[[n.op_type for n in model.graph.node].index("Sigmoid")]
    model.graph.initializer.append(numpy_helper.from_array(float32(1), "probability"))


def computed_range(model):
    model.graph.node.insert(0, helper.make_node("Mul", ["one", "one"], ["product"]))
    node(model, "Range").input[1] = "product"


def unknown_attribute(model):
    node(model, "LSTM").attribute.append(helper.make_attribute("clip", 1.0))


def attribute_twice(model):
    node(model, "LSTM").attribute.append(helper.make_attribute("hidden_size", 3))


def attribute_of_another_kind(model):
    node(model, "Transpose").attribute[0].CopyFrom(helper.make_attribute("perm", 1))


def attribute_of_two_values(model):
    node(model, "Transpose").attribute[0].i = 1


def attribute_of_a_function(model):
    node(model, "Transpose").attribute[0].ref_attr_name = "perm"


def lstm_of_other_units(model):
    next(a for a in node(model, "LSTM").attribute if a.name == "hidden_size").i = 2**40


def lstm_of_one_side(model):
    next(a for a in node(model, "LSTM").attribute if a.name == "direction").s = b"forward"


def lstm_with_a_first_state(model):
    node(model, "LSTM").input.append("below")


def lstm_without_lengths(model):
    node(model, "LSTM").input[4] = "axis_0"


def lstm_with_computed_weights(model):
    model.graph.node.insert(0, helper.make_node("Relu", ["W_0"], ["computed"]))
    node(model, "LSTM").input[1] = "computed"


def lstm_with_narrow_bias(model):
    put(model, "B_0", array([[0.0] * 23] * 2, float32))


def old_operators(model):
    model.opset_import[0].version = 17


def no_operators(model):
    del model.opset_import[:]


def new_format(model):
    model.ir_version = 11


def no_graph(model):
    model.ClearField("graph")


def no_table(model):
    node(model, "Gather").input[1] = "axis_0"


def other_axis(model):
    node(model, "Gather").attribute.append(helper.make_attribute("axis", 1))


def table_without_ids(model):
    del node(model, "Gather").input[1]


def table_of_nothing(model):
    del node(model, "Gather").input[:]


def long_name(model):
    node(model, "Sigmoid").name = "n" * 201


def scan_without_a_body(model):
    node(model, "Scan").attribute.remove(of_scan(model, "body"))


def scan_of_several_bodies(model):
    of_scan(model, "body").graphs.append(onnx.GraphProto())


def body_with_a_body(model):
    body(model).node.append(node(model, "Scan"))


def body_with_a_loop(model):
    body(model).node[0].op_type = "Loop"


def body_with_a_table(model):
    body(model).node[0].op_type = "Gather"


def body_with_a_foreign_operator(model):
    body(model).node[0].domain = "com.microsoft"


def body_with_a_graph_in_a_sum(model):
    body(model).node[0].attribute.append(helper.make_attribute("body", onnx.GraphProto()))


def body_with_weights(model):
    body(model).initializer.append(numpy_helper.from_array(float32(0), "zero_inside"))


def body_with_weights_outside(model):
    tensor = body(model).initializer.add()
    tensor.CopyFrom(numpy_helper.from_array(float32(0), "zero_inside"))
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"


def body_with_sparse_weights(model):
    body(model).sparse_initializer.add()


def body_that_says_more(model):
    body(model).value_info.append(body(model).input[0])


def body_of_whole_numbers(model):
    body(model).input[0].type.tensor_type.elem_type = TensorProto.INT64


def body_of_another_shape(model):
    body(model).output[0].type.tensor_type.shape.dim[1].dim_value = 2**40


def body_with_one_input_more(model):
    one = helper.make_tensor_value_info("more", TensorProto.FLOAT, ["B", "H"])
    body(model).input.append(one)


def body_with_one_output_less(model):
    del body(model).output[-1]


def body_that_puts_out_one_value_twice(model):
    body(model).output[0].CopyFrom(body(model).output[1])


def body_that_puts_out_what_it_reads(model):
    body(model).output[0].CopyFrom(body(model).input[0])


def body_from_nowhere(model):
    body(model).node[0].input[0] = "nothing"


def body_before_its_turn(model):
    body(model).node[0].input[0] = "evidence"  # which is made of what the Scan puts out


def body_with_an_input_left_out(model):
    body(model).node[0].input[1] = ""


def body_with_a_name_of_outside(model):
    body(model).input[0].name = "vectors"


def outside_with_a_name_of_a_body(model):
    model.graph.node.append(helper.make_node("Relu", ["logit"], [body(model).node[0].output[0]]))


def outside_that_reads_a_body(model):
    model.graph.node.append(helper.make_node("Relu", [body(model).node[0].output[0]], ["more"]))


def body_of_many_nodes(model):
    names = [f"n{i}" for i in range(MOST_NODES - len(model.graph.node))]
    body(model).node.extend([helper.make_node("Identity", ["zero"], [name]) for name in names])


def scan_that_reads_nothing(model):
    of_scan(model, "num_scan_inputs").i = 0


def scan_that_carries_nothing(model):
    of_scan(model, "num_scan_inputs").i = 3


def scan_that_reads_without_end(model):
    of_scan(model, "num_scan_inputs").i = 2**62


def scan_in_a_third_direction(model):
    of_scan(model, "scan_input_directions").ints[0] = 2


def scan_of_too_many_directions(model):
    of_scan(model, "scan_output_directions").ints.append(0)


def scan_over_another_axis(model):
    node(model, "Scan").attribute.append(helper.make_attribute("scan_input_axes", [1, 1]))


REFUSED = [
    (external, r"weights outside the bundle \(external data\)"),
    (external_unsaid, r"weights outside the bundle \(external data\)"),
    (foreign_operator, "the operator 'Sigmoid' of 'com.somebody', which none of ours does"),
    (foreign_opset, "needs version 1 of the operators 'com.somebody'"),
    (functions, "has functions of its own"),
    (training, "has training information"),
    (graph_inside, "Sigmoid has an attribute 'body' that none of ours has"),
    (loop, "the operator 'Loop'"),
    (sparse, "has sparse weights"),
    (too_short, r"'words' have 479 bytes, which is not shape \(30, 4\)"),
    (huge_shape, r"'words' have 480 bytes, which is not shape \(4611686018427387904, 4\)"),
    (negative_shape, r"which is not shape \(-30, -4\)"),
    (empty_weights, r"which is not shape \(0, 4\)"),
    (not_raw, r"holds what no graph of ours has \(field 4\)"),
    (texts_as_weights, r"'words' are of a type that no graph of ours has \(8\)"),
    (nan_weights, "'bias' are not all finite"),
    (huge_number, f"'no' hold a whole number beyond {LARGEST}"),
    (weights_twice, "two weights of one name"),
    (weights_named_as_an_input, "the name of an input"),
    (other_input, "has the input 'tokens'; ours are ids, lengths"),
    (one_input_more, "has the input 'more'"),
    (one_input_less, "has no input lengths"),
    (wide_input, r"its input ids is not int32 of shape \(B, T\)"),
    (fixed_input, r"its input ids is not int32 of shape \(B, T\)"),
    (shapeless_input, "does not say 'shape'"),
    (other_output, "has the output 'states'; ours are probability, logit, evidence"),
    (no_logit, "has no output logit"),
    (many_nodes, rf"has \d+ nodes, more than {MOST_NODES}"),
    (many_weights, "has more than 1000 tensors"),
    (made_twice, "Relu makes 'probability', which is there already"),
    (circle, "Sigmoid uses 'probability', which is not made before"),
    (from_nowhere, "Sigmoid uses 'nothing', which is not made before"),
    (input_left_out, "Max uses '', which is not made before"),
    (constant_output, "no node makes the output probability"),
    (computed_range, "Range counts to a number that is computed"),
    (unknown_attribute, "holds what no graph of ours has"),
    (attribute_twice, "LSTM has an attribute 'hidden_size' that none of ours has"),
    (attribute_of_another_kind, "Transpose has an attribute 'perm' that none of ours has"),
    (attribute_of_two_values, "Transpose has no value, or several, for its attribute 'perm'"),
    (attribute_of_a_function, "holds what no graph of ours has"),
    (lstm_of_other_units, "LSTM has weights of shapes"),
    (lstm_of_one_side, "LSTM has weights of shapes"),
    (lstm_with_a_first_state, "LSTM has weights of shapes"),
    (lstm_without_lengths, "LSTM has other inputs than ours"),
    (lstm_with_computed_weights, "LSTM has other inputs than ours"),
    (lstm_with_narrow_bias, "LSTM has weights of shapes"),
    (old_operators, "needs version 17 of the operators ''"),
    (no_operators, "does not say once which operators it needs"),
    (new_format, "is of ONNX version 11"),
    (no_graph, "does not say 'graph'"),
    (no_table, "does not begin with one table of words"),
    (other_axis, "does not begin with one table of words"),
    (table_without_ids, "does not begin with one table of words"),
    (table_of_nothing, "does not begin with one table of words"),
    (long_name, "has a name of more than 200 bytes"),
    (scan_without_a_body, "does not say 'body'"),
    (scan_of_several_bodies, "has several graphs inside of a node"),
    (body_with_a_body, "uses the operator 'Scan' of '' inside of a Scan"),
    (body_with_a_loop, "uses the operator 'Loop' of '' inside of a Scan"),
    (body_with_a_table, "uses the operator 'Gather' of '' inside of a Scan"),
    (body_with_a_foreign_operator, "the operator 'Add' of 'com.microsoft' inside of a Scan"),
    (body_with_a_graph_in_a_sum, "Add has an attribute 'body' that none of ours has"),
    (body_with_weights, "has weights inside of a Scan"),
    (body_with_weights_outside, "has weights inside of a Scan"),
    (body_with_sparse_weights, "has sparse weights"),
    (body_that_says_more, r"holds what no graph of ours has \(field 13\)"),
    (body_of_whole_numbers, r"inside of a Scan, is not float32 of shape \(B, H\)"),
    (body_of_another_shape, r"inside of a Scan, is not float32 of shape \(B, H\)"),
    (body_with_one_input_more, "Scan has other inputs and outputs than its body"),
    (body_with_one_output_less, "Scan has other inputs and outputs than its body"),
    (body_that_puts_out_one_value_twice, "what no node of its body makes, or one value twice"),
    (body_that_puts_out_what_it_reads, "what no node of its body makes, or one value twice"),
    (body_from_nowhere, "Add uses 'nothing', which is not made before"),
    (body_before_its_turn, "Add uses 'evidence', which is not made before"),
    (body_with_an_input_left_out, "Add uses '', which is not made before"),
    (body_with_a_name_of_outside, "Scan makes 'vectors', which is there already"),
    (outside_with_a_name_of_a_body, "Relu makes '.*', which is there already"),
    (outside_that_reads_a_body, "Relu uses '.*', which is not made before"),
    (body_of_many_nodes, rf"has \d+ nodes, more than {MOST_NODES}"),
    (scan_that_reads_nothing, "Scan has other inputs and outputs than its body"),
    (scan_that_carries_nothing, "Scan has other inputs and outputs than its body"),
    (scan_that_reads_without_end, "Scan has other inputs and outputs than its body"),
    (scan_in_a_third_direction, "Scan does not say which way"),
    (scan_of_too_many_directions, "Scan does not say which way"),
    (scan_over_another_axis, "Scan has an attribute 'scan_input_axes' that none of ours has"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED, ids=lambda x: getattr(x, "__name__", ""))
def test_what_no_graph_of_ours_has_is_refused(fp32, change, reason):
    changed = copied(fp32)
    change(changed)
    with pytest.raises(BadInput, match=reason) as caught:
        check_model(changed.SerializeToString(), "b/model.onnx")
    assert str(caught.value).startswith("b/model.onnx: ")
    assert str(caught.value).endswith("; get the bundle again or export it again")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("W_scale", array([[1.0] * 19] * 2, float32), "DynamicQuantizeLSTM has weights of shapes"),
        ("R_zero", array([[0] * 20] * 2, uint8), "DynamicQuantizeLSTM has weights of other types"),
        ("W", array([[[0] * 20] * 6] * 2, int32), "DynamicQuantizeLSTM has weights of other types"),
    ],
)
def test_the_weights_of_an_int8_lstm_must_fit_each_other(int8, name, values, reason):
    changed = copied(int8)
    put(changed, name, values)
    with pytest.raises(BadInput, match=reason):
        check_model(changed.SerializeToString(), "m")


def test_a_name_that_is_not_utf8_is_refused(fp32):
    data = fp32.SerializeToString().replace(b"is_word", b"is_wor\xff")
    with pytest.raises(BadInput, match="that is not UTF-8"):
        check_model(data, "m")


def test_what_is_said_twice_is_refused_as_the_last_would_count(fp32):
    with pytest.raises(BadInput, match="says twice what its ir_version is"):
        check_model(fp32.SerializeToString() + b"\x08\x0a", "m")
    with pytest.raises(BadInput, match="says twice what its graph is"):
        check_model(fp32.SerializeToString() + b"\x3a\x00", "m")


def test_a_file_that_is_cut_anywhere_is_refused(fp32):
    data = fp32.SerializeToString()
    for size in range(len(data) - 1):
        with pytest.raises(BadInput):
            check_model(data[:size], "m")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 50,
        b"\xff" * 50,
        b"PK\x03\x04 a zip file",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length of -1
        b"\x08" + b"\x80" * 11 + b"\x01",  # a number of 12 bytes
        b"\x0d\x00\x00\x00\x00",  # ir_version as a floating point number
        b"\x3b\x3c",  # a group, which Protocol Buffers gave up
    ],
)
def test_what_is_no_onnx_file_is_refused(data):
    with pytest.raises(BadInput, match=r"^m: .*; get the bundle again"):
        check_model(data, "m")


@given(st.binary(max_size=300))
def test_any_bytes_have_one_clear_error(data):
    with pytest.raises(BadInput, match=r"^m: [^\n]*$"):
        check_model(data, "m")


# --- What is let through does not end the process -----------------------------------------------


def mutate(model, chance):
    """Change one thing of a graph, such that it can still be written."""
    graph = model.graph
    bodies = [a.g for n in graph.node for a in n.attribute if a.name == "body"]
    nodes = [*graph.node, *(node for inside in bodies for node in inside.node)]
    node = nodes[chance.integers(len(nodes))]
    tensor = graph.initializer[chance.integers(len(graph.initializer))]
    names = [t.name for t in graph.initializer] + [name for n in nodes for name in n.output]
    kind = chance.integers(9)
    if kind == 0:
        node.input[chance.integers(len(node.input))] = str(chance.choice([*names, "ids", ""]))
    elif kind == 1:
        node.op_type = chance.choice(sorted(op for _, op in ALLOWED_OPS))
    elif kind == 2 and node.attribute:
        attribute = node.attribute[chance.integers(len(node.attribute))]
        number = int(chance.choice([-(2**63), -2, -1, 0, 1, 2, 3, 7, 2**31, 2**62]))
        if attribute.type == onnx.AttributeProto.INTS:
            attribute.ints[chance.integers(len(attribute.ints))] = number
        else:
            attribute.i = number
    elif kind == 3:
        values = numpy_helper.to_array(tensor)
        shape = chance.permutation([*values.shape, chance.integers(1, 4)])[: chance.integers(5)]
        tensor.CopyFrom(numpy_helper.from_array(resize(values, shape), tensor.name))
    elif kind == 4:
        values = numpy_helper.to_array(tensor).copy()
        number = chance.choice([-128, -9, -2, -1, 0, 1, 2, 3, 4, 9, 127])
        values.reshape(-1)[chance.integers(values.size)] = number.astype(values.dtype)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    elif kind == 5:
        del node.input[chance.integers(len(node.input)) :]
    elif kind == 6:  # what a Scan reads and carries
        scan = next(n for n in graph.node[:: chance.choice([1, -1])] if n.op_type == "Scan")
        scan.input[chance.integers(len(scan.input))] = str(chance.choice([*names, "ids"]))
    elif kind == 7:
        inside = bodies[chance.integers(len(bodies))]
        ports = inside.input if chance.integers(2) else inside.output
        left, right = chance.integers(len(ports), size=2)
        ports[left].name, ports[right].name = ports[right].name, ports[left].name
    else:
        left, right = chance.integers(len(graph.initializer), size=2)
        a, b = graph.initializer[left].name, graph.initializer[right].name
        graph.initializer[left].name, graph.initializer[right].name = b, a


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_no_changed_graph_ends_the_process(small_model, outcomes, mutants, tmp_path, variant):
    original = onnx.load_model_from_string(small_model(variant=variant))
    chance = random.default_rng(0)
    for number in range(2 * mutants):
        model = copied(original)
        mutate(model, chance)
        (tmp_path / f"{number:06}").write_bytes(model.SerializeToString())
    found = list(outcomes(tmp_path).values())
    assert len(found) == 2 * mutants
    assert found.count("works") > 5
    assert found.count("refused") > mutants / 2
