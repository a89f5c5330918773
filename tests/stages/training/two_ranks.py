"""What `test_team` launches: the video recipe on made-up clips, stopped and gone on with; then a command of a user.

Every process writes the weights with which the recipe ends.

`accelerate launch --multi_gpu --num_processes 2 -m tests.stages.training.two_ranks FOLDER ACCUMULATE COMMAND ...`
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from stages.training.__main__ import main as command
from stages.training.loop.loop import Options
from stages.training.loop.team import Team
from stages.training.video.recipe import VideoRecipe, train_video
from tests.stages.training.networks import make_trainee
from tests.stages.training.video.test_recipe_video import NOISING, SCHEDULE, Fixed


def main(folder: Path, accumulate: int) -> None:
    team = Team.join("cpu")
    recipe = VideoRecipe("two", ("motion", "control"), Fixed(3), 2, Fixed(1), 2, image_ratio=0.4)
    options = Options(team=team, accumulate=accumulate, row_every=2)
    for steps in (4, 10):  # the second time from the file that the first has left
        torch.manual_seed(0)
        trainee = make_trainee(image_mode="bypass")
        if team.rank:  # processes that start apart must end together
            with torch.no_grad():
                for parameter in trainee.network.unet.parameters():
                    parameter.add_(torch.randn_like(parameter))
        train_video(trainee, recipe, NOISING, replace(SCHEDULE, steps=steps), folder, options=options)
    trained = {name: p.detach() for name, p in trainee.all_modules().named_parameters() if p.requires_grad}
    torch.save(trained, folder / f"rank{team.rank}of{team.size}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.exit(command(sys.argv[3:]))  # it parts from the others at its end
