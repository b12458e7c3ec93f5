"""bfloat16 on a CPU: what oneDNN computes wrongly is refused.

oneDNN 3.7.3, in TensorFlow 2.21, leaves parts of the gradient of a 3D filter unset if several
images have more than one slice, but fewer than the filter (kernel `jit_bf16:avx512_core_bf16`).
What was in the memory is then learned: the numbers are wrong, and seldom so large that it shows.
"""

from __future__ import annotations

from engine.errors import BadUsage
from engine.recipe.recipe import Recipe
from engine.runtime import Runtime


def refuse_shallow(recipe: Recipe, started: Runtime) -> None:
    """Refuses bfloat16 where a layer has too few slices for it.

    Raises:
        BadUsage: naming the layer.
    """
    on_gpu = any("GPU" in device for device in started.strategy.extended.worker_devices)
    if started.precision != "bfloat16" or on_gpu or started.xla:
        return
    from keras import layers

    from engine.training.step_cost import shapes_at_crop

    model = recipe.network.build()
    shapes = shapes_at_crop(model, recipe)
    for layer in model.layers:
        if not isinstance(layer, layers.Conv3D) or recipe.batch // started.replicas == 1:
            continue
        depth, filters = shapes[id(layer.output)][1], layer.kernel_size[0]
        if 1 < depth < filters:
            cause = f"computes wrong gradients on a CPU: {layer.name} has filters of {filters} "
            cause += f"slices for {depth}"
            remedy = "Use --precision float32, or a deeper crop.shape"
            raise BadUsage("--precision bfloat16", cause, remedy)
