"""Our own tables of meanings: what other words mean the same as the model's, or a kind of it, and what is like it.

Ours -> others, between commas. A word stands here only if it is a synonym or a kind of ours; what is merely like a
subject stands in `NEAR`, from which a subject is offered where a prompt has none. They come before WordNet.
"""

SUBJECTS: dict[str, str] = {
    "fox": "vixen, fennec, fennec fox, red fox, fox cub, baby fox",
    "dog": "pup, doggo, husky, labrador, golden retriever, chihuahua, dalmatian, shiba, shiba inu, bulldog, hound",
    "cat": "kitty, pussycat, tabby, tomcat, house cat, maine coon, persian cat, sphynx",
    "rabbit": "jackrabbit, bunny rabbit",
    "horse": "mare, stallion, foal, colt, filly, steed, mustang",
    "cow": "dairy cow, heifer, highland cow",
    "pig": "swine",
    "bear": "grizzly, polar bear, brown bear, black bear, bear cub",
    "panda": "giant panda, panda cub",
    "elephant": "baby elephant, mammoth",
    "tiger": "tigress, tiger cub",
    "lion": "lioness, lion cub",
    "monkey": "chimp, baboon, capuchin",
    "duck": "duckling, mallard, drake, rubber duck",
    "owl": "owlet, snowy owl, barn owl",
    "whale": "orca, killer whale, humpback, humpback whale, beluga, white whale",
    "shark": "great white, great white shark, hammerhead, hammerhead shark",
    "crocodile": "croc",
    "snake": "serpent, boa",
    "frog": "toad, tree frog, treefrog",
    "turtle": "sea turtle",
    "crab": "hermit crab",
    "bee": "bumble bee, bumblebee, honey bee, worker bee",
    "butterfly": "monarch butterfly",
    "raccoon": "racoon",
    "dragon": "wyvern",
    "dinosaur": "dino, t rex, trex, tyrannosaurus rex, tyrannosaurus, velociraptor, raptor, stegosaurus, brachiosaurus",
    "unicorn": "alicorn",
    "ghost": "phantom, specter, spectre, wraith",
    "alien": "extraterrestrial, martian",
    "astronaut": "cosmonaut, spacewoman, taikonaut",
    "robot": "android, droid",
    "flying saucer": "alien spaceship, alien ship",
    "rocket": "rocket ship, space rocket, spacecraft, space ship",
    "boat": "canoe, kayak, gondola, ferry, motorboat, speedboat, rowboat, raft, fishing boat",
    "sailboat": "sailing boat, sail boat, yacht, sailing ship, sailing yacht",
    "car": (
        "taxi, cab, jeep, limousine, sports car, race car, racing car, police car, convertible, sedan, vintage car"
    ),
    "bus": "school bus, double-decker, double decker, double decker bus, minibus, city bus",
    "train": "steam train, freight train, bullet train, high-speed train",
    "locomotive": "steam engine, steam locomotive",
    "airplane": "aeroplane, jet, fighter jet, airliner, biplane, seaplane, jumbo jet",
    "helicopter": "chopper",
    "motorcycle": "moped",
    "pumpkin": "jack o lantern, jack o' lantern",
    "christmas tree": "xmas tree",
    "teddy bear": "teddy, stuffed bear, plush bear",
    "snowman": "snow man",
}

PLACES: dict[str, str] = {
    "snowy forest": (
        "snow-covered forest, snow covered forest, forest in winter, snowy woods, winter woods, snowy wood, snowy "
        "woodland, wintry forest, forest in the snow, snowy pine forest, snow-covered trees"
    ),
    "forest": "woods, woodland, pine forest, trees",
    "snow": "winter wonderland, snowfall, snowy landscape, snowy field, winter landscape, deep snow",
    "winter": "wintertime",
    "beach": "seashore, sandy shore, tropical beach, seaside, shore, coast",
    "ocean": "sea, open sea, ocean waves, open ocean",
    "meadow": (
        "field, flower field, grassland, pasture, prairie, wildflowers, flowers, lawn, green field, flower "
        "meadow, field of wildflowers, field of sunflowers, field of lavender, tall grass, green grass"
    ),
    "city": (
        "street, busy street, town, downtown, city centre, city center, metropolis, city street, streets, "
        "skyscrapers, skyscraper, cityscape, skyline, buildings, new york, new york city, manhattan, paris, "
        "london, tokyo, berlin, rome, barcelona, madrid, amsterdam, venice, san francisco, los angeles, chicago, "
        "hong kong, shanghai, beijing, moscow, istanbul, sydney, toronto, vienna, prague, lisbon, singapore, "
        "seoul, mumbai"
    ),
    "desert": "sand dunes, sand dune, dunes, dune, sahara, gobi",
    "mountains": (
        "mountain, peak, peaks, mountain peak, mountain peaks, snowy mountain, snowy mountains, alps, himalayas, "
        "rocky mountains, mountain range, mount everest, mount fuji, snow-capped mountains, snowy peak, "
        "mountaintop"
    ),
    "lake": "pond, lagoon, lakeside, lakeshore, loch",
    "jungle": "rain forest, tropical forest, tropical rainforest, palms, palm trees",
    "castle": "palace, fortress, chateau, citadel, fairy-tale castle, ruined castle, medieval castle",
    "farm": "farmyard, barnyard, barn, ranch, farmland",
}

# phrases that name a place only behind a preposition, as in "among trees"
STRICT = (
    "flowers wildflowers trees grass buildings palms streets street field snow winter sea ocean waves skyline barn "
    "coast shore"
)

# places that give way to any other: what is said of a season or of water may be beside it
WEAK = ("snow", "winter", "ocean")

TIMES: dict[str, str] = {
    "day": (
        "daylight, broad daylight, sunny, sunny afternoon, sunny morning, morning, afternoon, midday, noon, "
        "sunshine, sunny day, bright day, summer day, clear day, beautiful day"
    ),
    "dusk": "sunset, twilight, evening, sundown, nightfall, golden hour, setting sun, evening sun, warm evening",
    "night": (
        "nighttime, midnight, moonlight, moonlit, moonlit night, full moon, starry night, starry sky, starry, "
        "night sky, starlight, dark night, under the stars, late at night, crescent moon"
    ),
}

# ours -> verbs in their plain form
MOTIONS: dict[str, str] = {
    "walking": "walk, stroll, amble, hike, trek, march, tiptoe, strut, waddle, limp, plod, trudge",
    "moving": (
        "move, run, sprint, race, gallop, trot, jog, crawl, drive, ride, travel, sail, swim, roll, slither, "
        "creep, rush, dash, speed, cruise, march, chase, explore, cross"
    ),
    "wandering": "wander, roam, prowl",
    "jumping": "jump, skip",
    "hopping": "hop",
    "bouncing": "bounce",
    "leaping": "leap",
    "floating": "float, fly, soar, glide",
    "hovering": "hover",
    "levitating": "levitate",
    "drifting in the air": "drift",
    "standing": "stand, pose",
    "resting": "rest, sit, sleep, nap, lie, lounge, snooze, doze",
    "waiting": "wait",
}

# the forms of verbs that are not made by a rule
FORMS: dict[str, str] = {
    "run": "runs, running, ran",
    "swim": "swims, swimming, swam",
    "fly": "flies, flying, flew",
    "sit": "sits, sitting, sat",
    "lie": "lies, lying",
    "stand": "stands, standing, stood",
    "hop": "hops, hopping, hopped",
    "skip": "skips, skipping, skipped",
    "jog": "jogs, jogging, jogged",
    "trot": "trots, trotting, trotted",
    "leap": "leaps, leaping, leapt, leaped",
    "drive": "drives, driving, drove",
    "ride": "rides, riding, rode",
    "creep": "creeps, creeping, crept",
    "sleep": "sleeps, sleeping, slept",
    "nap": "napping",
    "speed": "speeding, speeds",
    "strut": "struts, strutting",
    "plod": "plods, plodding",
    "travel": "travels, travelling, traveling",
    "race": "races, racing, raced",
    "float": "floats, floating, floated, afloat",
    "cross": "crossing, crosses",
    "rest": "rests, resting, rested",
    "march": "marching, marches",
    "dash": "dashing, dashes",
    "rush": "rushing, rushes",
    "pose": "poses, posing",
    "trek": "trekking, treks",
    "slither": "slithers, slithering",
    "wander": "wanders, wandering, wandered",
    "limp": "limping, limps",
    "stroll": "strolls, strolling, strolled",
}

ZOOM = "zoom in, zooms in, zooming in, camera zooms in, camera zooming in, slow zoom in, zoom-in, camera moves closer"

STYLES: dict[str, str] = {
    "oil": "oil paint, oil on canvas, oils, in oils, oil paints, painted in oils, painting, painting style",
    "pencil": (
        "pencil drawing, pencil sketches, graphite drawing, graphite sketch, in pencil, pencil style, sketch, sketched"
    ),
    "3d": "3d animation, 3d rendering, 3d rendered, 3d model, 3-d",
}

LOOKS: dict[str, str] = {
    "cute": "adorable",
    "little": "small, tiny",
    "happy": "joyful, cheerful",
    "fat": "chubby, plump",
}

# what holds a word that is known and means something else
BLOCKED = (
    "one day, some day, every day, one night, day and night, christmas day, zoom out, zooms out, zooming out, "
    "camera zooms out, sea lion, sea cow, sea horse, sea dragon, sea snail, sea dog, hot dog, corn dog, dog "
    "days, cat fish, cat walk, car park, car wash, car crash, bus stop, bus station, bus driver, train "
    "station, train tracks, train track, train driver, bear hug, horse chestnut, rocking horse, saw horse, "
    "guinea pig, flying fox, fox glove, spider monkey bars, monkey bars, monkey wrench, turtle neck, duck "
    "tape, crab apple, snake oil, snake plant, tiger lily, lion's mane, eagle eye, ghost town, ghost writer, "
    "pumpkin pie, pumpkin soup, pumpkin seed, pumpkin seeds, pumpkin spice, dragon fruit, dragon fly, lady "
    "bird, butter fly, bee hive, paper plane, paper airplane, paper boat, air plane mode, rocket salad, "
    "rocket science, robot vacuum, boat house, gravy boat, cable car, car seat, panda express, paint brush, "
    "water color painting, watercolor painting, watercolour painting, face painting, cave painting, wall "
    "painting, finger painting, acrylic painting, watercolor sketch, snow leopard, snow globe, snow white, "
    "snow angel, snowball fight, desert island, soccer field, football field, field trip, baseball field, "
    "force field, magnetic field, battle field, corn field, track and field, star fish, beach ball, beach "
    "volleyball, mountain bike, mountain goat, mountain lion, family tree, street food, street artist, street "
    "musician, street lamp, street light, street lights, city hall, night club, night gown, night light, sand "
    "castle, sandcastle, bouncy castle, castle in the sky, air castle, sea food, sea weed, sea shell, sea "
    "shells, sea gull, sea urchin, ant farm, wind farm, solar farm, server farm, farm animal, farm animals, "
    "flower pot, cut flowers, flower vase, vase of flowers, bouquet of flowers, bunch of flowers, moving "
    "company, moving box, moving boxes, running shoes, running water, walking stick, standing ovation, "
    "driving lesson, racing stripes, swimming pool, swimming suit, sleeping bag, sleeping beauty, flying "
    "carpet, jumping rope, jump rope, cross country, cross stitch, riding hood, waves hello, heat waves, "
    "radio waves, sound waves, hair waves, day care, day dream, night mare, two year old, three year old, cat "
    "woman, spider man, bat man, wolf man, good night, good morning, good evening, morning coffee, evening "
    "gown, evening dress, afternoon tea, flying dragon, big cat, toy dog, toy car, toy train, king of beasts, "
    "motor home, power plane"
)

# nouns that take nothing away from the subject or the place before them: "a lion cub", "on a forest path"
NO_HEADS = (
    "face head portrait picture image photo drawing sketch animation character figure cub kit calf pup chick "
    "baby child friend family path road trail street floor clearing side shore top peak range slope edge "
    "landscape scene background setting view square meadow water sand sun sunset light night day evening "
    "morning afternoon time today tonight home one way back front middle center style art film movie shot "
    "close snow winter summer spring autumn rain air sky stars moon sea ground land area world place end "
)

# what WordNet calls a kind of a subject and people do not
NO_KIND = (
    "drone, commuter, charger, scooter, gig, two-seater, eggbeater, skyhook, interceptor, tom, agua, bufo, "
    "okapi, cruiser, poler, pacer, prancer, roadster, narrow-body, wide-body, delta wing, flying lizard, "
    "flying dragon, thunder lizard, passenger vehicle, two year old, three year old, toy dog, big cat, "
    "missile, riding horse, small boat"
)

# what is like a subject and none: ours -> others, between spaces
NEAR: dict[str, str] = {
    "fox": "wolf coyote jackal dingo",
    "dog": "wolf",
    "raccoon": "squirrel chipmunk badger beaver otter weasel skunk",
    "rabbit": "hamster mouse rat gerbil squirrel",
    "hedgehog": "porcupine mole",
    "bear": "wolverine",
    "horse": "deer donkey mule moose reindeer elk antelope stag centaur pegasus",
    "cow": "bull ox bison buffalo goat sheep calf lamb",
    "pig": "boar hog",
    "elephant": "rhino rhinoceros hippo hippopotamus",
    "tiger": "leopard cheetah jaguar panther lynx",
    "lion": "leopard cheetah panther cougar",
    "dragon": "monster griffin phoenix lizard",
    "unicorn": "fairy pegasus",
    "rooster": "chicken hen chick turkey",
    "duck": "goose",
    "swan": "goose",
    "owl": "bird bat",
    "eagle": "bird hawk falcon vulture",
    "parrot": "bird pigeon crow raven sparrow robin",
    "flamingo": "stork heron crane",
    "penguin": "puffin seal walrus",
    "dolphin": "fish salmon mermaid",
    "shark": "fish",
    "octopus": "squid jellyfish kraken",
    "crab": "lobster shrimp scorpion",
    "snail": "slug worm",
    "snake": "lizard eel",
    "bee": "wasp hornet fly mosquito ant insect",
    "ladybug": "beetle bug spider ant",
    "butterfly": "moth dragonfly insect",
    "bus": "truck lorry van tram",
    "car": "truck van vehicle",
    "tractor": "truck digger tank",
    "motorcycle": "bicycle bike",
    "sailboat": "ship submarine",
    "helicopter": "drone balloon airship",
    "airplane": "drone aircraft",
    "robot": "cyborg machine",
    "ghost": "zombie skeleton vampire witch",
    "alien": "goblin monster",
    "astronaut": (
        "man woman boy girl person child kid baby people princess prince king queen wizard knight pirate dancer singer"
    ),
    "teddy bear": "doll toy baby",
    "christmas tree": "tree pine oak",
    "pumpkin": "apple fruit melon",
    "snowman": "yeti",
    "monkey": "animal",
    "cat": "animal pet",
}

EXAMPLES = ("a fox walking through a snowy forest at dusk", "a robot jumping in a city at night")
