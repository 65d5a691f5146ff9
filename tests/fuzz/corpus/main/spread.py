"""x
def main():
"""
# it's
@d(1)
def main(
    dataset_dir: "str" = f(')', [1]),  # (
    model_output_dir: Path = None,
) -> None: pass
