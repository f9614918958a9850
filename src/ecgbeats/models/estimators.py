"""Baselines of scikit-learn: boosted trees and a support vector machine on plain pixel values.

They take images of any spec, flattened to one vector a beat, and suit the `features`
representation, whose pixels are RR and morphology values. What is kept of them is an ONNX
network with the input and the output of the convolutional ones, so evaluation, packaging and
service know no difference; scikit-learn's own pickles are never written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ecgbeats.calibration import tempered
from ecgbeats.errors import ConfigError, DataError
from ecgbeats.imaging.spec import Spec

if TYPE_CHECKING:
    import onnx

# Of the network's tensors; the convolutional ones use the same names.
_IMAGE, _LABEL = "image", "label"
_FLAT, _PRESENT = "flat", "present"
_OPSET, _IR, _TREES = 17, 8, "ai.onnx.ml"
# Middle grey, which is zero in signed images; and the largest distance from it.
_MIDDLE, _REACH = 128.0, 127.0
# A vector on its margin has this logit against the other class of its pair.
_STEEPNESS = 4.0


class Estimator(ABC):
    """A classifier of flattened images that has no epochs.

    Parameters
    ----------
    spec : Spec
        Of the images that it takes.
    classes : int
        Number of classes; one that no label has gets probability zero.
    seed : int
        Settles all chance.

    Attributes
    ----------
    temperature : float
        Divides the logarithms of its probabilities (`ecgbeats.calibration`); one, until set.
    """

    def __init__(self, spec: Spec, classes: int, *, seed: int) -> None:
        self._shape, self._classes, self._seed = spec.shape, classes, seed
        self._seen = np.zeros(0, np.int64)
        self.temperature = 1.0

    def fit(self, images: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> None:
        """Learn from images, uint8 (n, rows, columns).

        Parameters
        ----------
        labels : ndarray of int, shape (n,)
        weight : ndarray of float, shape (n,)
            Weight of each beat.

        Raises
        ------
        DataError
            The labels are all of one class.
        """
        self._seen, codes = np.unique(labels, return_inverse=True)
        if len(self._seen) < 2:
            raise DataError(f"training: expected labels of two classes, found {len(self._seen)}")
        self._fit(self._flatten(images), codes, np.asarray(weight, np.float64))

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities by scikit-learn, float64 (n, classes), of images, uint8."""
        out = np.zeros((len(images), self._classes))
        present = self._predict(self._flatten(images))
        out[:, self._seen] = tempered(present, self.temperature)
        return out

    def network(self) -> onnx.ModelProto:
        """As ONNX: float32 (n, rows, columns, 1), 0 to 255, to float32 (n, classes)."""
        from onnx import TensorProto, helper, numpy_helper

        core = self._network()
        rows, columns = self._shape
        # A class that no label had: its column of the product is zero.
        spread = np.zeros((len(self._seen), self._classes), np.float32)
        spread[np.arange(len(self._seen)), self._seen] = 1
        constants: dict[str, np.ndarray] = {
            "rows_of_pixels": np.array([-1, rows * columns]),
            # As `tempered` does it.
            "tiny": np.array([np.finfo(np.float32).tiny]),
            "cooling": np.array([1 / self.temperature], np.float32),
            "spread": spread,
        }
        graph = helper.make_graph(
            [
                helper.make_node("Reshape", [_IMAGE, "rows_of_pixels"], [_FLAT]),
                *core.graph.node,
                helper.make_node("Max", [_PRESENT, "tiny"], ["possible"]),
                helper.make_node("Log", ["possible"], ["logarithms"]),
                helper.make_node("Mul", ["logarithms", "cooling"], ["cooled"]),
                helper.make_node("Softmax", ["cooled"], ["tempered"], axis=1),
                helper.make_node("MatMul", ["tempered", "spread"], [_LABEL]),
            ],
            "estimator",
            [helper.make_tensor_value_info(_IMAGE, TensorProto.FLOAT, ["n", rows, columns, 1])],
            [helper.make_tensor_value_info(_LABEL, TensorProto.FLOAT, ["n", self._classes])],
            [
                *core.graph.initializer,
                *(numpy_helper.from_array(value, name) for name, value in constants.items()),
            ],
        )
        return helper.make_model(graph, opset_imports=core.opset_import, ir_version=_IR)

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many numbers were learnt; what counts as one differs by kind."""

    @abstractmethod
    def arrays(self) -> list[np.ndarray]:
        """All that was learnt, in a fixed order: equal arrays, equal answers."""

    @abstractmethod
    def _fit(self, x: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> None: ...

    @abstractmethod
    def _predict(self, x: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _network(self) -> onnx.ModelProto:
        """Nodes and constants from `_FLAT`, float32 (n, pixels), to `_PRESENT`."""

    @staticmethod
    def _flatten(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)


class GradientBoosting(Estimator):
    """Trees on histograms, each on what those before it left over, one a class and round.

    Ke et al. 2017 (LightGBM), as `sklearn.ensemble.HistGradientBoostingClassifier`. With
    `max_features` at one nothing in it is left to chance, and seeds do not differ.

    Parameters
    ----------
    max_iter : int
        Rounds. All are run: no beats are set apart for stopping early.
    learning_rate : float
        Share of a tree that counts.
    max_leaf_nodes, min_samples_leaf : int
        Size of a tree.
    l2 : float
        Shrinks the values of the leaves. Without it a class of a few beats, or of one
        patient, drives them to infinity: a leaf's value is a sum of residuals over a sum of
        p (1 - p), which is next to nothing where the class is all but impossible.
    max_features : float
        Share of the pixels that each split may choose from.

    Notes
    -----
    The defaults come from patient-grouped four-fold cross-validation on DS1 with `features`
    images: macro-F1 over N, S and V 0.70, against 0.55 with scikit-learn's own values.
    """

    def __init__(
        self,
        spec: Spec,
        classes: int,
        *,
        seed: int,
        max_iter: int = 100,
        learning_rate: float = 0.05,
        max_leaf_nodes: int = 15,
        min_samples_leaf: int = 100,
        l2: float = 10.0,
        max_features: float = 0.3,
    ) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        super().__init__(spec, classes, seed=seed)
        self._model = HistGradientBoostingClassifier(
            max_iter=max_iter,
            learning_rate=learning_rate,
            max_leaf_nodes=max_leaf_nodes,
            min_samples_leaf=min_samples_leaf,
            l2_regularization=l2,
            max_features=max_features,
            early_stopping=False,
            random_state=seed,
        )

    @property
    def parameters(self) -> int:
        """A value for each leaf; a pixel and a threshold for each inner node."""
        leaves = [tree["is_leaf"].astype(bool) for tree in self._trees()]
        return int(sum(is_leaf.sum() + 2 * (~is_leaf).sum() for is_leaf in leaves))

    def arrays(self) -> list[np.ndarray]:
        fields = ("is_leaf", "value", "feature_idx", "num_threshold", "left", "right")
        trees = [np.ascontiguousarray(tree[name]) for tree in self._trees() for name in fields]
        return [self._seen, np.asarray(self._model._baseline_prediction), *trees]

    def _trees(self) -> list[np.ndarray]:
        return [tree.nodes for trees in self._model._predictors for tree in trees]

    def _fit(self, x: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> None:
        _checked(self._model.fit, x, codes, sample_weight=weight)

    def _predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self._model.predict_proba(x))

    def _network(self) -> onnx.ModelProto:
        from onnx import TensorProto, helper, numpy_helper

        trees = self._trees()
        sizes = [len(tree) for tree in trees]
        nodes = np.concatenate(trees)
        tree_ids = np.repeat(np.arange(len(trees)), sizes)
        node_ids = np.concatenate([np.arange(size) for size in sizes])
        leaf = nodes["is_leaf"].astype(bool)
        # One tree a class and round; for two classes one a round, for the second of them.
        level = np.asarray(self._model._baseline_prediction, np.float64).ravel()
        targets = len(level)
        to_logits = np.eye(targets) if targets > 1 else np.array([[0.0, 1.0]])

        def inner(values: np.ndarray) -> list[int]:
            return [int(value) for value in np.where(leaf, 0, values)]

        # In double precision, as scikit-learn adds the leaves up.
        doubles = {
            "nodes_values": np.where(leaf, 0.0, nodes["num_threshold"]),
            "target_weights": nodes["value"][leaf].astype(np.float64),
            "base_values": level,
        }
        ensemble = helper.make_node(
            "TreeEnsembleRegressor",
            ["double"],
            ["sums"],
            domain=_TREES,
            n_targets=targets,
            nodes_treeids=tree_ids.tolist(),
            nodes_nodeids=node_ids.tolist(),
            nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
            nodes_featureids=inner(nodes["feature_idx"]),
            nodes_truenodeids=inner(nodes["left"]),
            nodes_falsenodeids=inner(nodes["right"]),
            target_treeids=tree_ids[leaf].tolist(),
            target_nodeids=node_ids[leaf].tolist(),
            target_ids=(tree_ids[leaf] % targets).tolist(),
            **{
                f"{name}_as_tensor": numpy_helper.from_array(values, name)
                for name, values in doubles.items()
            },
        )
        graph = helper.make_graph(
            [
                helper.make_node("Cast", [_FLAT], ["double"], to=TensorProto.DOUBLE),
                ensemble,
                helper.make_node("MatMul", ["sums", "to_logits"], ["logits"]),
                helper.make_node("Softmax", ["logits"], [_PRESENT], axis=1),
            ],
            "trees",
            [],
            [],
            [numpy_helper.from_array(to_logits.astype(np.float32), "to_logits")],
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(_TREES, 3)],
        )


class SupportVectorMachine(Estimator):
    """Support vectors with Gaussian kernel, one class against one, with probabilities.

    Cortes and Vapnik 1995, as `sklearn.svm.SVC`, which is exact: 46,000 beats of some 70
    values take half a minute, and time grows with the number of pixels. Nothing in it is
    left to chance, and seeds do not differ.

    A class has the probability to win against each other class, over the sum of all; it wins
    against one by the logistic function of the decision value. So the answer is that of
    votes, but for near ties, and has no steps over which rounding could tip it. Platt's
    sigmoids, and a logistic regression on the decision values of patients left out, found
    fewer S and V beats (cross-validation on DS1: macro-F1 over N, S and V 0.65 against
    0.68). How sure the answers may be is left to the temperature.

    Parameters
    ----------
    c : float
        Cost of a beat on the wrong side of its margin.
    gamma : float or "scale"
        Of the kernel exp(-gamma d^2); "scale" is one over the sum of the values' variances.
    standardise : bool
        Bring each pixel to mean zero and variance one; else all alike to -1 to 1.
    """

    def __init__(
        self,
        spec: Spec,
        classes: int,
        *,
        seed: int,
        c: float = 1.0,
        gamma: float | Literal["scale"] = "scale",
        standardise: bool = True,
    ) -> None:
        from sklearn.svm import SVC

        super().__init__(spec, classes, seed=seed)
        self._standardise = standardise
        self._machine = SVC(C=c, gamma=gamma, decision_function_shape="ovo", cache_size=500)
        self._middle = self._scale = np.zeros(0)
        self._vectors = np.zeros((0, 0), np.uint8)

    @property
    def parameters(self) -> int:
        """Pixels of the support vectors, their coefficients, and what goes around them."""
        return sum(array.size for array in self.arrays()[1:])

    def arrays(self) -> list[np.ndarray]:
        machine = self._machine
        return [
            self._seen,
            self._vectors,
            machine.dual_coef_,
            machine.intercept_,
            self._middle,
            self._scale,
            np.array([machine._gamma]),
        ]

    def _fit(self, x: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> None:
        pixels = x.shape[1]
        self._middle, self._scale = np.full(pixels, _MIDDLE), np.full(pixels, _REACH)
        if self._standardise:
            self._middle, spread = x.mean(axis=0), x.std(axis=0)
            self._scale = np.where(spread > 0, spread, 1.0)
        _checked(self._machine.fit, self._scaled(x), codes, sample_weight=weight)
        self._vectors = x[self._machine.support_]

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return np.asarray((x.astype(np.float64) - self._middle) / self._scale)

    def _predict(self, x: np.ndarray) -> np.ndarray:
        decisions = self._machine.decision_function(self._scaled(x))
        if decisions.ndim == 1:
            # Of two classes scikit-learn's sign is for the second, of more for the first.
            decisions = -decisions[:, None]
        first, second = self._sides()
        steep = _STEEPNESS * decisions
        logits = -(np.logaddexp(0, -steep) @ first + np.logaddexp(0, steep) @ second)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Which class is the first of each pair, and which the second: one-hot rows."""
        pairs = np.array(list(combinations(range(len(self._seen)), 2)))
        one_hot = np.eye(len(self._seen))
        return one_hot[pairs[:, 0]], one_hot[pairs[:, 1]]

    def _network(self) -> onnx.ModelProto:
        from onnx import TensorProto, helper, numpy_helper

        coefficients, offset = self._decisions()
        first, second = self._sides()
        gamma = self._machine._gamma
        # In double precision: distances are differences of large sums. Support vectors stay
        # bytes in the file and are brought to scale as the image is.
        constants: dict[str, np.ndarray] = {
            "vectors": self._vectors,
            "middle": self._middle,
            "scale": self._scale,
            "minus_gamma": np.array([-gamma]),
            "two_gamma": np.array([2 * gamma]),
            "coefficients": _STEEPNESS * coefficients,
            "offset": _STEEPNESS * offset,
            "first": -first.astype(np.float32),
            "second": -second.astype(np.float32),
            "last": np.array([1]),
        }
        node = helper.make_node
        nodes = []
        for given, made in ((_FLAT, "x"), ("vectors", "v")):
            nodes += [
                node("Cast", [given], [f"{made}_double"], to=TensorProto.DOUBLE),
                node("Sub", [f"{made}_double", "middle"], [f"{made}_centred"]),
                node("Div", [f"{made}_centred", "scale"], [made]),
                node("Mul", [made, made], [f"{made}_squares"]),
                node("ReduceSum", [f"{made}_squares", "last"], [f"{made}_norm"], keepdims=1),
                node("Mul", [f"{made}_norm", "minus_gamma"], [f"{made}_part"]),
            ]
        nodes += [
            # exp(-gamma |x - v|^2), the square written out.
            node("Transpose", ["v"], ["v_turned"], perm=[1, 0]),
            node("Transpose", ["v_part"], ["v_part_turned"], perm=[1, 0]),
            node("MatMul", ["x", "v_turned"], ["product"]),
            node("Mul", ["product", "two_gamma"], ["product_part"]),
            node("Add", ["x_part", "v_part_turned"], ["norms"]),
            node("Add", ["norms", "product_part"], ["exponent"]),
            node("Exp", ["exponent"], ["kernel"]),
            node("MatMul", ["kernel", "coefficients"], ["centred"]),
            node("Add", ["centred", "offset"], ["steep_double"]),
            node("Cast", ["steep_double"], ["steep"], to=TensorProto.FLOAT),
            # -log of the probability to win, for either side of each pair.
            node("Neg", ["steep"], ["shallow"]),
            node("Softplus", ["shallow"], ["first_loses"]),
            node("Softplus", ["steep"], ["second_loses"]),
            node("MatMul", ["first_loses", "first"], ["as_first"]),
            node("MatMul", ["second_loses", "second"], ["as_second"]),
            node("Add", ["as_first", "as_second"], ["logits"]),
            node("Softmax", ["logits"], [_PRESENT], axis=1),
        ]
        graph = helper.make_graph(
            nodes,
            "svm",
            [],
            [],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])

    def _decisions(self) -> tuple[np.ndarray, np.ndarray]:
        """Decision values as a product with the kernel, positive for the first of a pair.

        Returns
        -------
        coefficients : ndarray, shape (support vectors, pairs)
        offset : ndarray, shape (pairs,)
        """
        machine = self._machine
        pairs = list(combinations(range(len(self._seen)), 2))
        if len(pairs) == 1:
            return -machine.dual_coef_.T, -machine.intercept_
        ends = np.concatenate([[0], np.cumsum(machine.n_support_)])
        out = np.zeros((len(machine.support_), len(pairs)))
        # libsvm keeps, for a vector of class i, its coefficients against the others in
        # their order: against j in row j - 1 if j comes after i, else in row j.
        for column, (i, j) in enumerate(pairs):
            of_i, of_j = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
            out[of_i, column] = machine.dual_coef_[j - 1, of_i]
            out[of_j, column] = machine.dual_coef_[i, of_j]
        return out, machine.intercept_


def _checked(fit: Any, *arguments: Any, **named: Any) -> None:
    """Call `fit`; a parameter that scikit-learn refuses is an error of the recipe."""
    from sklearn.utils._param_validation import InvalidParameterError

    try:
        fit(*arguments, **named)
    except InvalidParameterError as error:
        raise ConfigError(f"model.options: {error}") from error
