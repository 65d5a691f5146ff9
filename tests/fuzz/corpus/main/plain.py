def main(dataset_dir, model_output_dir):
    pass
