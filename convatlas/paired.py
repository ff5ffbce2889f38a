"""Whether two classifiers differ, by what each answered to the same images."""


def mcnemar(won: int, lost: int) -> float:
    """The two-sided p value of McNemar's exact test (McNemar 1947): the binomial's, with a half for each image.

    `won` images were right by the first classifier alone, `lost` by the second alone.
    """
    n, k = won + lost, min(won, lost)
    term = tail = 1
    for i in range(k):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)  # Python divides whole numbers of any size
