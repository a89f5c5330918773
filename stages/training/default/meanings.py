"""Other words for what the next default model knows: ours -> synonyms and kinds of it, between commas.

They come beside the tables of `stages.training.tiny.meanings`, and before them and WordNet. What is merely like a
subject stands in `NEAR`, from which a subject is offered where a prompt has none.
"""

SUBJECTS: dict[str, str] = {
    "man standing": (
        "man, guy, gentleman, dude, fellow, male, father, dad, daddy, king, emperor, waiter, salesman, husband, "
        "grown man, tall man, lumberjack, fisherman"
    ),
    "woman": "lady, mother, mom, mum, mommy, queen, actress, waitress, housewife, wife, female, young lady, empress",
    "girl": "schoolgirl, daughter, teenage girl, little girl, sister",
    "boy": "schoolboy, son, teenage boy, little boy, brother",
    "child": "schoolchild",
    "person": (
        "human, human being, knight, soldier, warrior, pirate, viking, samurai, musician, guitarist, pianist, "
        "violinist, drummer, gardener, tourist, traveller, traveler, passenger, photographer, athlete, teenager, "
        "engineer, lawyer, sailor, hero, neighbour, neighbor, friend, customer, baker, butcher"
    ),
    "dancer": "ballerina, ballet dancer, flamenco dancer",
    "dancing man": "man dancing, man dances",
    "cook": "chef, pastry chef",
    "police officer": "policeman, cop, police, policewoman, constable",
    "firefighter": "fireman, firewoman",
    "doctor": "physician, surgeon, medic",
    "teacher": "professor, schoolteacher",
    "student": "pupil",
    "artist": "painter",
    "scientist": "chemist, physicist, researcher, biologist",
    "business person": "businesswoman, office worker, manager",
    "man singer": "man singing, man sings, male singer",
    "singer": (
        "woman singing, woman sings, female singer, person singing, vocalist, pop star, rock star, girl singing"
    ),
    "farmer": "person farming",
    "detective": "sherlock holmes, sherlock, private eye",
    "wizard": "warlock, magician, merlin, gandalf",
    "witch": "wicked witch",
    "superhero": "superman, super hero",
    "woman superhero": "superwoman, wonder woman, superheroine",
    "santa claus": "st nicholas, saint nicholas, santa clause",
    "horse racing": (
        "jockey, horse rider, horseman, man riding horse, woman riding horse, person riding horse, girl riding "
        "horse, boy riding horse, man on horse, woman on horse, person on horse, cowboy riding horse, cowboy on "
        "horse, knight on horse, knight riding horse, rider on horse, man rides horse"
    ),
    "cyclist": (
        "person riding bicycle, person riding bike, person on bicycle, person on bike, bicyclist, boy on bicycle, "
        "boy riding bicycle, boy riding bike, girl on bicycle, girl riding bicycle, girl riding bike, child on "
        "bicycle"
    ),
    "man biking": "man on bicycle, man on bike, man riding bicycle, man riding bike, man cycling, man rides bike",
    "woman biking": "woman on bicycle, woman on bike, woman riding bicycle, woman riding bike, woman cycling",
    "surfer": "person surfing, boy surfing, girl surfing, person on surfboard",
    "skier": "person skiing, man skiing, woman skiing",
    "snowboarder": "person snowboarding, man snowboarding, woman snowboarding",
    "swimmer": "person swimming",
    "pedestrian": "person walking, hiker",
    "runner": "person running, marathon runner, sprinter",
    "climber": "person climbing, mountaineer, rock climber",
    "juggler": "person juggling",
    "people wrestling": "wrestlers",
    "meditating person": "person meditating, person doing yoga",
    "meditating woman": "woman meditating, woman doing yoga",
    "meditating man": "man meditating, man doing yoga, buddhist monk",
    "woman with headscarf": "woman in headscarf, woman with hijab, woman in hijab, woman wearing hijab",
    "blonde woman": "blonde girl, blond woman, woman with blonde hair, blonde",
    "blond man": "blonde man, man with blond hair, man with blonde hair",
    "woman with red hair": "red-haired woman, red-headed woman, ginger woman",
    "man with red hair": "red-haired man, red-headed man, ginger man",
    "woman with white hair": "white-haired woman, woman with grey hair",
    "man with white hair": "white-haired man, man with grey hair",
    "woman with curly hair": "curly-haired woman",
    "man with curly hair": "curly-haired man",
    "bald man": "man without hair",
    "man with a beard": "man with long beard",
    "old man": "elderly man, granddad, grandad",
    "old woman": "elderly woman, granny, grandmom, old lady",
    "woman doctor": "female doctor, lady doctor",
    "woman astronaut": "female astronaut, spacewoman",
    "groom": "man in suit, man in tuxedo, bridegroom",
    "bride": "woman in wedding dress, woman in white dress",
    "baby": "newborn, infant, baby boy, baby girl",
    "family": "parents with child, parents with children",
    "merperson": "merfolk",
    "zombie": "undead, walking dead",
    "vampire": "dracula, count dracula",
    "devil": "demon, imp",
    "ogre": "troll, oni",
    "ghost": "phantom, specter, spectre, wraith, spirit",
    "alien": "extraterrestrial, martian",
    "skull": "human skull",
    "taxi": "cab, taxicab, yellow cab",
    "suv": "off-road car, off-roader, land rover",
    "racing car": "race car, sports car, formula one car, formula 1 car, f1 car",
    "ambulance": "emergency vehicle",
    "truck": "semi truck, semi-truck, big rig, freight truck",
    "delivery van": "van, parcel van",
    "ship": "cargo ship, freighter, battleship, container ship",
    "passenger ship": "cruise ship, cruise liner, ocean liner, titanic",
    "canoe": "kayak, rowboat, rowing boat",
    "sailboat": "sailing boat, sail boat, sailing ship, sailing yacht",
    "speedboat": "powerboat, speed boat",
    "motor boat": "motorboat",
    "person rowing boat": "rower, person in rowing boat",
    "airplane": "aeroplane, airliner, jumbo jet, passenger plane",
    "small airplane": "small plane, propeller plane, biplane",
    "ufo": "alien spaceship, alien ship, unidentified flying object, spaceship of aliens",
    "rocket": "rocket ship, space rocket, spacecraft, space ship, space shuttle",
    "train": "freight train, steam engine, steam locomotive",
    "light rail": "bullet train, high-speed train, high speed train, metro, subway train, commuter train",
    "motorcycle": "moped, scooter",
    "parachute": "parachutist, skydiver",
    "black cat": "black kitten",
    "dog": "shiba, shiba inu, corgi, dachshund, german shepherd, beagle, pug, terrier, border collie, pitbull",
    "rescue dog": "service dog, saint bernard",
    "hatching chick": "chick hatching, chick in egg",
    "chick": "baby chicken, little chick",
    "chicken": "hen",
    "dove": "pigeon",
    "bird": (
        "sparrow, robin, crow, raven, finch, songbird, bluebird, magpie, hummingbird, little bird, blackbird, "
        "seagull, gull, canary, swallow, woodpecker, kingfisher"
    ),
    "eagle": "bald eagle, falcon",
    "turkey": "turkey bird",
    "fish": "goldfish, salmon, trout, tuna",
    "tropical fish": "clownfish, clown fish, angelfish, nemo",
    "blowfish": "pufferfish, puffer fish",
    "shrimp": "prawn",
    "seal": "sea lion, baby seal",
    "wolf": "wolf cub, werewolf, grey wolf, gray wolf",
    "deer": "stag, doe, fawn, roe deer, bambi, reindeer, moose, elk, caribou",
    "ox": "bull, bullock",
    "water buffalo": "buffalo",
    "sheep": "ewe, little lamb",
    "ram": "bighorn sheep",
    "goat": "billy goat, baby goat",
    "boar": "wild boar, wild pig, warthog",
    "rat": "sewer rat",
    "mouse": "little mouse, field mouse",
    "hamster": "pet hamster",
    "leopard": "panther, black panther, snow leopard, jaguar",
    "gorilla": "silverback, king kong",
    "polar bear": "polar bear cub, arctic bear",
    "bear": "bear cub, grizzly bear",
    "fox": "fox cub, baby fox, arctic fox, red fox, vixen, fennec, fennec fox",
    "cat": "tabby, tabby cat, house cat, tomcat, maine coon, persian cat, siamese cat",
    "llama": "alpaca",
    "lizard": "gecko, iguana, chameleon, salamander",
    "snake": "cobra, python, viper, rattlesnake, anaconda, serpent",
    "spider": "tarantula, black widow",
    "spider web": "spiderweb, cobweb",
    "dinosaur": "dino, t rex, trex, tyrannosaurus rex, velociraptor, raptor",
    "long-necked dinosaur": "brachiosaurus, diplodocus, long neck dinosaur, long-neck dinosaur",
    "wilted flower": "wilting flower, wilted rose, dead flower, withered flower",
    "christmas tree": "xmas tree",
    "teddy bear": "stuffed bear, plush bear, toy bear",
    "pumpkin": "jack-o-lantern, jack o lantern, halloween pumpkin",
    "snowman": "snow man",
    "fire": "campfire, bonfire, flame, flames",
    "wave": "tsunami, big wave, giant wave, ocean waves, sea waves",
    "tornado": "twister, cyclone, whirlwind",
    "planet": "ringed planet, planet saturn",
    "shooting star": "falling star, meteor",
    "cloud with lightning": "thundercloud, thunder cloud",
    "cloud with rain": "rain cloud",
    "cup of coffee": "coffee cup, mug of coffee, cup of hot chocolate, latte, cappuccino, hot coffee",
    "beer mug": "beer, mug of beer, pint of beer, glass of beer",
    "cocktail glass": "cocktail, martini, glass of wine",
    "bottle of champagne": "champagne, champagne bottle",
    "birthday cake": "cake, cake with candles",
    "party popper": "confetti",
    "alarm clock": "clock",
    "mantelpiece clock": "antique clock, grandfather clock",
    "watch": "wristwatch, wrist watch",
    "camera": "photo camera, film camera, vintage camera",
    "musical notes": "music notes, music note",
    "pirate flag": "jolly roger",
    "hut": "cabin, shack, cottage, wooden hut",
    "fountain": "water fountain",
    "smiling face": "smiley, smiley face, emoji",
    "beetle": "bug, scarab, stag beetle",
    "cricket": "grasshopper",
    "ladybug": "ladybird beetle",
    "worm": "earthworm",
    "bee": "honeybee, honey bee, bumblebee, bumble bee",
}


# ours -> verbs in their plain form
MOTIONS: dict[str, str] = {
    "walking": "walk, amble, hike, trek, march, tiptoe, strut, waddle, limp, plod, trudge, prowl",
    "moving": "move, crawl, drive, ride, sail, swim, slither, creep, cruise, explore, cross, row, cycle",
    "wandering": "wander, roam",
    "strolling": "stroll",
    "travelling": "travel",
    "running": "run, gallop, trot, jog, chase, flee",
    "rushing": "rush, dash, speed",
    "racing": "race",
    "sprinting": "sprint",
    "jumping": "jump, skip",
    "hopping": "hop",
    "bouncing": "bounce",
    "leaping": "leap",
    "floating": "float",
    "flying": "fly, soar, glide",
    "hovering": "hover",
    "levitating": "levitate",
    "drifting in the air": "drift",
    "dancing": "dance, waltz, breakdance",
    "swaying": "sway",
    "performing": "perform",
    "spinning": "spin, twirl, rotate",
    "turning around": "turn around",
    "rolling": "roll, tumble",
    "whirling": "whirl",
    "standing": "stand, pose",
    "resting": "rest, sleep, nap, lie, lounge, snooze, doze, relax",
    "sitting": "sit, perch",
    "waiting": "wait",
}
FORMS: dict[str, str] = {
    "spin": "spins, spinning, spun",
    "flee": "flees, fleeing, fled",
    "chase": "chases, chasing, chased",
    "skip": "skips, skipping, skipped",
    "turn around": "turns around, turning around",
    "row": "rowing",
    "cycle": "cycling",
    "prowl": "prowls, prowling",
    "waltz": "waltzes, waltzing",
    "sprint": "sprints, sprinting",
    "stand": "stands, standing, stood",
}


LOOKS: dict[str, str] = {
    "cute": "adorable",
    "little": "small, tiny",
    "happy": "joyful, cheerful, smiling",
    "fat": "chubby, plump",
    "big": "large, huge, giant, enormous, gigantic",
    "funny": "silly, goofy",
    "lovely": "beautiful, pretty",
}
COLOURS: dict[str, str] = {
    "red": "crimson, scarlet",
    "orange": "ginger",
    "purple": "violet, lilac",
    "golden": "gold",
    "black": "jet-black",
    "white": "snow-white",
}
COUNTS: dict[str, str] = {
    "two": "2, couple of, twin, a few of",
    "three": (
        "3, trio of, four, five, six, seven, eight, nine, ten, twelve, hundred, many, several, few, herd of, "
        "flock of, pack of, group of, swarm of, school of, army of, crowd of, bunch of, lots of, family of, team "
        "of, 4, 5, 6, dozen, hundreds of, thousands of, colony of, pride of, fleet of, pod of"
    ),
}

# nouns that may be verbs: they are nouns behind an article, an adjective, a preposition
DEEDS = "fly watch wave cook judge guard seal"

# verbs between two subjects that are both drawn
MEETS = (
    "fighting chasing hugging kissing meeting feeding petting riding watching holding carrying following facing "
    "leading cuddling attacking hunting catching stroking greeting pulling pushing chases fights meets hugs follows"
)

# subjects whose name says what they do: the verb that follows it in a caption
DOES = {"man walking": "moving", "woman walking": "moving", "man running": "rushing", "woman running": "rushing"}

# what holds a word that is known and means something else
BLOCKED = (
    "red panda, movie star, star wars, five star, star fruit, computer mouse, mickey mouse, baseball bat, fire "
    "breathing, fire-breathing, breathing fire, fire hydrant, fire station, camera pans, camera moves, camera "
    "follows, camera angle, camera movement, camera tilts, camera rotates, camera flies, drone camera, camera "
    "view, handheld camera, camera pan, camera shake, camera shot, black and white, stock market, super market, "
    "supermarket, fish tank, fish and chips, fish bowl, fishing rod, star trek, ship wreck, shipwreck, bus lane, "
    "rain boots, rain coat, ice cream, ice cube, ice skate, ice skating, space bar, space suit, space station, "
    "living room table, watch tower, water bottle, water gun, glass of water, moon cake, half moon, honey moon, "
    "crescent moon, train tracks, turkey sandwich, chicken soup, chicken nuggets, fried chicken, roast chicken, "
    "roast turkey, lamb chops, shrimp cocktail, lobster bisque, duck soup, goat cheese, mermaid tail, wolf pack, "
    "baby carriage, baby food, baby bottle, baby blue, person of year, witch hunt, ghost town, cloud computing, "
    "cloud nine, sun flower, sun hat, sun glasses, sun screen, rainbow flag, rainbow colored, rainbow coloured, "
    "rainbow hair, family tree, family dinner, judge dredd, ninja turtle, ninja turtles, guard rail, hot air "
    "balloon, bear market, tea cup, orange juice, orange tree, golden gate bridge, golden gate, white house, "
    "black hole, black board, blue print, red carpet, red bull, pink floyd, white wine, green tea, green house, "
    "greenhouse, brown sugar, black friday, fashion show, talent show, fair hair, fair skin, camera lens, snow "
    "globe, snow angel, snow white, snowball fight, street food, street lamp, street light, street lights, teddy "
    "boy, dancing shoes, pub crawl, tree house, treehouse, dog house, doghouse, house plant, house of cards, big "
    "ben, big bang, no one, city hall, city wall, ice age"
)

# what is like a subject and none: ours -> others, between spaces
NEAR: dict[str, str] = {
    "raccoon": "badger",
    "chipmunk": "squirrel",
    "chick": "duckling egg",
    "hedgehog": "porcupine mole",
    "horse": "donkey mule antelope centaur",
    "unicorn": "pegasus",
    "swan": "goose stork heron",
    "penguin": "puffin",
    "seal": "walrus",
    "octopus": "jellyfish kraken",
    "beetle": "insect",
    "dragon": "monster griffin phoenix",
    "cyclist": "bicycle bike",
    "christmas tree": "tree pine oak",
    "wilted flower": "flower rose tulip plant",
    "pumpkin": "apple fruit melon vegetable",
    "birthday cake": "cookie pizza bread food",
    "hut": "house home tent",
    "robot": "cyborg machine",
    "car": "vehicle",
    "airplane": "drone aircraft balloon airship",
    "singer": "song music guitar piano band concert",
    "family": "couple lovers friends crowd",
    "fish": "starfish",
    "ship": "submarine",
    "mouse": "gerbil",
    "cat": "animal pet",
    "party popper": "fireworks firework balloons party",
    "person": "everyone somebody someone",
}

EXAMPLES = ("a fox walking through a snowy forest at dusk", "two penguins dancing in the arctic, watercolour")
