"""latens in Python: ``train``, ``load``, and the scikit-learn estimator ``VAE``."""
