"""A video made and downloaded with what openapi-python-client makes of /openapi.json: `python generated.py URL`."""

import json
import sys
import time
from typing import Any

from generated_client import Client
from generated_client.api.videos import create_video, download_content, retrieve_video
from generated_client.models import CreateVideo, Video

client = Client(base_url=sys.argv[1])
video: Any = create_video.sync(client=client, body=CreateVideo(prompt="a fox", seed=7))
while isinstance(video, Video) and video.status not in ("completed", "failed"):
    time.sleep(0.05)
    video = retrieve_video.sync(client=client, video_id=video.id)
content = download_content.sync_detailed(client=client, video_id=video.id)
print(json.dumps({"id": video.id, "seed": video.seed, "bytes": len(content.content)}))
