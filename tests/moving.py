"""Pictures whose motion is known exactly: a texture given as a formula, and a moving map."""

import numpy as np

HEIGHT, WIDTH = 128, 160
CX, CY = (WIDTH - 1) / 2, (HEIGHT - 1) / 2


class Texture:
    """A sum of waves of 10 to 60 pixels, defined at every real point: nothing is interpolated."""

    def __init__(self, seed, *, waves=40):
        rng = np.random.default_rng(seed)
        turn = rng.uniform(0, 2 * np.pi, waves)
        rate = 2 * np.pi / rng.uniform(10, 60, waves)
        self.fx, self.fy = rate * np.cos(turn), rate * np.sin(turn)
        self.phase = rng.uniform(0, 2 * np.pi, waves)

    def __call__(self, x, y):
        """Grey levels [...] uint8 at points of any shape."""
        total = np.zeros(np.shape(x))
        for fx, fy, phase in zip(self.fx, self.fy, self.phase, strict=True):
            total += np.cos(fx * x + fy * y + phase)
        scale = 40 / np.sqrt(len(self.fx) / 2)
        return np.clip(np.rint(128 + scale * total), 0, 255).astype(np.uint8)


def grid(height=HEIGHT, width=WIDTH):
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x, y


class Affine:
    """p -> scale * rotation * (p - centre) + centre + shift, per step of time."""

    def __init__(self, *, shift=(0, 0), degrees=0.0, zoom=1.0):
        a = np.deg2rad(degrees)
        self.matrix = zoom * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        self.shift = np.array(shift, float)

    def forward(self, x, y, steps=1):
        for _ in range(steps):
            (a, b), (c, d) = self.matrix
            dx, dy = x - CX, y - CY
            x = a * dx + b * dy + CX + self.shift[0]
            y = c * dx + d * dy + CY + self.shift[1]
        return x, y

    def backward(self, x, y, steps=1):
        (a, b), (c, d) = np.linalg.inv(self.matrix)
        for _ in range(steps):
            dx, dy = x - CX - self.shift[0], y - CY - self.shift[1]
            x, y = a * dx + b * dy + CX, c * dx + d * dy + CY
        return x, y

    def flow(self):
        """[H, W, 2]: where each pixel goes in one step."""
        x, y = grid()
        u, v = self.forward(x, y)
        return np.stack([u - x, v - y], axis=-1)


def frames(motion, count, *, seed=0):
    """RGB frames [H, W, 3]; frame i is frame 0 moved i times."""
    texture, (x, y) = Texture(seed), grid()
    grey = (texture(*motion.backward(x, y, steps=i)) for i in range(count))
    return [np.repeat(g[..., None], 3, axis=2) for g in grey]


def endpoint_errors(flow, truth, *, border=16):
    """Distances in pixels inside the border, where both pictures show the same texture."""
    inside = slice(border, -border)
    return np.hypot(*np.moveaxis(flow[inside, inside] - truth[inside, inside], -1, 0))
